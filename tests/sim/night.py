"""A night in the house, by its seed: services fall sick, people and strangers tap, processes die, the store
goes away. In the morning all is well again, and what was left open has had its time.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import suppress

from bot.ports import Verb
from ledger import events as ev
from ledger.chain import Entry
from ledger.events import Actor, Event, Ref
from ledger.machine import Stage
from ledger.store import StoreDown
from ledger.view import View
from tests.sim.house import ADMIN, CHATS, ONLY, PEOPLE, Died, Process, Shown, World, charter

DEEDS = 40
PAUSES_S = (0.0, 0.0, 0.02, 0.3, 1.0, 3.0, 7.0)
MORNING_S = 120.0
POLICY, MODEL, BOT = Actor.policy(), Actor.model("model-a"), Actor.orchestrator("web.0")
RUDO = Actor.engineer("rudo", "telegram")
PRESSED = (Verb.APPROVE, Verb.CONFIRM)

Look = Callable[[World], None]


async def night(seed: int, look: Look = lambda world: None, deeds: int = DEEDS) -> World:
    """The world after the night *seed*. *look* looks at it after each thing that happens."""
    world = World(seed)
    await world.opens()
    for place in world.how:
        world.how[place] = world.chance.choice(["sick", "well"])
    await asyncio.sleep(world.chance.uniform(8, 25))
    for _ in range(deeds):
        deed = world.chance.choices([*DEED], [*DEED.values()])[0]
        await deed(world)
        await asyncio.sleep(world.chance.choice(PAUSES_S))
        look(world)
    await morning(world)
    look(world)
    return world


async def morning(world: World) -> None:
    """All is well, and time passes until nothing is left to be done."""
    clear(world)
    world.hanging.clear()
    world.bad_sends, world.receiver.well = 0.0, True
    for place in world.how:
        world.how[place] = "well"
    for process in world.processes:
        process.life.ends_at = -1
    world.lease(*world.processes[:1] or [await world.born_again()])
    await world.quiet()
    await asyncio.sleep(MORNING_S)
    for process in world.processes:
        await agrees_with_the_store(world, process)


# --- people -------------------------------------------------------------------------------------------


def _button(world: World, *verbs: Verb) -> Shown | None:
    """One that was shown, mostly a new one."""
    found = [one for one in world.shown if not verbs or one.verb in verbs]
    if world.chance.random() < 0.8:
        found = found[-12:]
    return world.chance.choice(found) if found else None


def _whose(world: World, button: Shown) -> str:
    """Somebody who can see the button where it is."""
    inside = [name for name in PEOPLE if name not in ONLY["beta" if button.tenant == "acme" else "acme"]]
    there = [name for name in inside if PEOPLE[name] == button.chat]
    return there[0] if there else world.chance.choice([*inside, "tendai", ADMIN[button.tenant]])


async def approves(world: World) -> None:
    button = _button(world, *PRESSED)
    if button:
        world.acts(_whose(world, button), button.chat, button.data, tap=True)


async def approves_as_told(world: World) -> None:
    """The newest request, by people who may, one after the other."""
    found = [one for one in world.shown if one.verb is Verb.APPROVE and one.chat in CHATS.values()][-4:]
    if found:
        button = world.chance.choice(found)
        for who in ("tendai", ADMIN[button.tenant]):
            world.acts(who, button.chat, button.data, tap=True)
            await asyncio.sleep(0.1)
    confirm = [one for one in world.shown if one.verb is Verb.CONFIRM][-1:]
    for one in confirm:
        world.acts(_whose(world, one), one.chat, one.data, tap=True)


async def taps(world: World) -> None:
    button = _button(world)
    if button:
        world.acts(_whose(world, button), button.chat, button.data, tap=True)


async def taps_twice(world: World) -> None:
    """Two people at once; or the vendor sends the same tap twice, perhaps to two processes."""
    button = _button(world, *PRESSED)
    if button is None:
        return
    world.acts("tendai", button.chat, button.data, tap=True)
    again = world.asked[-1].update if world.chance.random() < 0.5 else ""
    world.acts("tendai" if again else _whose(world, button), button.chat, button.data, tap=True, update=again)


async def taps_elsewhere(world: World) -> None:
    """Anybody, with any button, anywhere."""
    button = _button(world)
    who = world.chance.choice([*PEOPLE])
    if button:
        chat = world.chance.choice([*CHATS.values(), PEOPLE[who]])
        world.acts(who, chat, button.data, tap=True)


async def forges(world: World) -> None:
    """Changes one character, or one word, of a button."""
    button, chance = _button(world, *PRESSED), world.chance
    if button is None:
        return
    version, verb, option, anchor, mac = button.data.split("|")
    at = chance.randrange(len(button.data))
    data = chance.choice(
        [
            button.data[:at] + chance.choice("0aAbB|z") + button.data[at + 1 :],
            "|".join((version, verb, "B" if option == "A" else "A", anchor, mac)),
            "|".join((version, "ap", option, anchor, mac[::-1])),
            "approve everything",
        ]
    )
    world.acts(chance.choice([*PEOPLE]), button.chat, data, tap=True)


async def taps_what_is_not_theirs(world: World) -> None:
    """A button that we did make, for another tenant's entry, or for an option that was never there."""
    chance = world.chance
    mine, other = chance.choice([("acme", "beta"), ("beta", "acme")])
    there = [entry for entry in world.log(other) if entry.event == "Validated"]
    here = [entry for entry in world.log(mine) if entry.event == "Validated"]
    verb = chance.choice([Verb.APPROVE, Verb.DENY, Verb.ACK, Verb.NOT_INCIDENT, Verb.ASK_AGAIN])
    who = chance.choice([ADMIN[mine], "tendai"])
    for entries, option in ((there, "1"), (here, "Z")):
        if entries:
            data = world.mint(mine, CHATS[mine], verb, option, entries[-1].hash)
            world.acts(who, CHATS[mine], data, tap=True)


async def types(world: World) -> None:
    who, chance = world.chance.choice([*PEOPLE]), world.chance
    known = [name for names in world.codes._kept.values() for name in names if name.startswith("code:")]
    code = chance.choice(known)[5:] if known else "1234"
    words = chance.choice(
        [
            f"/approve {code}", f"RUN {code}", f"/deny {code}", "/ack", "/ask", "/status", "/audit", "yes",
            "/resolve checkout-1", "/resolve", "/outcome checkout-1 ran", "/pause", "it was the disk",
        ]
    )  # fmt: skip
    world.acts(who, chance.choice([PEOPLE[who], *CHATS.values()]), words, tap=False)


async def pauses(world: World) -> None:
    who = world.chance.choice(["rudo", "farai", "tendai"])
    words = world.chance.choice(["/pause", "/resume", "/resume"])
    world.acts(who, PEOPLE[who], words, tap=False)


async def changes_the_charter(world: World) -> None:
    """The file changes on every machine; an admin adopts it, or somebody else tries to."""
    chance = world.chance
    tenant = chance.choice([*CHATS])
    found = charter(
        tenant,
        chance.choice(["1 oncall", "1 oncall", "2 oncall", "1 dev"]),
        chance.choice(["low", "low", "high"]),
        chance.choice(["", "", "tendai"]),
    )
    world.files[tenant] = found
    for process in world.processes:
        room = process.rooms[tenant]
        room.proposed, room.proposed_policy = found, found.effective_policy()
    who = chance.choice([ADMIN[tenant], ADMIN[tenant], *PEOPLE])
    data = world.mint(tenant, PEOPLE[who], Verb.ADOPT, "", found.digest())
    world.acts(who, PEOPLE[who], data, tap=True)


async def a_traitor_writes(world: World) -> None:
    """Code of ours that would say what it may not: every one of these must be refused."""
    chance = world.chance
    process = chance.choice(world.processes) if world.processes else None
    if process is None or world.weather.away:
        return
    tenant = chance.choice([*CHATS])
    ledger = process.rooms[tenant].ledger
    for actor, event in treason(ledger.view):
        with suppress(Died):
            answer = await process.does(ledger.record(actor, lambda view, now, said=event: said))
            if isinstance(answer, Entry):
                world.treason.append(answer)


def treason(view: View) -> Iterator[tuple[Actor, Event]]:
    """Facts that cannot stand, each in the voice of somebody who may not say it, or about the wrong entry."""
    for incident in view.open():
        name, request, found = incident.id, incident.request, incident.authorization
        no = Ref(seq=1, hash="0" * 64)
        yield POLICY, ev.Diagnosed(incident_id=name, lens="A", round=1)
        yield MODEL, ev.Recovered(incident_id=name, after=incident.reading)
        yield MODEL, ev.Resolved(incident_id=name)
        yield RUDO, ev.Executed(incident_id=name, attempt=1, status=200, ref=no)
        yield BOT, ev.ExecutionStarted(incident_id=name, attempt=1, by="web.0", until_ms=2**52, ref=no)
        if request:
            option = request.event.options[0]
            said = ev.Authorized(incident_id=name, option=option.key, action=option.action, ref=request.ref)
            yield from ((actor, said) for actor in (POLICY, MODEL, BOT))
            yield RUDO, said.model_copy(update={"ref": no})
            yield RUDO, said.model_copy(update={"option": "Z"})
            yield POLICY, ev.Expired(incident_id=name, ref=no)
        if found and incident.stage is Stage.EXECUTING:
            yield BOT, ev.Executed(incident_id=name, attempt=1, status=200, ref=no)
            yield (
                BOT,
                ev.ExecutionStarted(
                    incident_id=name, attempt=1, by="web.0", until_ms=2**52, ref=found[0].ref
                ),
            )
        if found and incident.stage is Stage.EXECUTED:
            yield BOT, ev.WebhookFailed(incident_id=name, attempt=1, ref=found[0].ref)


# --- machines -----------------------------------------------------------------------------------------


async def a_service_turns(world: World) -> None:
    place = world.chance.choice([*world.how])
    world.how[place] = world.chance.choice(["sick", "sick", "well", "silent"])


async def a_process_starts(world: World) -> None:
    if len(world.processes) < 2:
        await world.born_again()


async def a_process_dies(world: World) -> None:
    """At once, or a few steps from now, wherever it is then. Another takes over and agrees with the store."""
    if not world.processes:
        await world.born_again()
    victim = world.chance.choice(world.processes)
    if world.chance.random() < 0.3:
        victim.life.killed.set()
    else:
        victim.life.ends_at = victim.life.steps + world.chance.randrange(60)
    await asyncio.sleep(world.chance.choice([0.0, 0.5, 4.0]))
    heir = await world.born_again() if len(world.processes) < 2 else world.processes[-1]
    world.lease(heir)
    await agrees_with_the_store(world, heir)


async def agrees_with_the_store(world: World, process: Process) -> None:
    """The fold of what is stored is what a process that lives on sees."""

    async def agrees() -> None:
        for tenant, room in process.rooms.items():
            await room.ledger.catch_up()
            assert room.ledger.view == world.view(tenant), tenant

    with suppress(Died, StoreDown):
        await process.does(agrees())


async def the_lease_moves(world: World) -> None:
    """To one, or for a while to all: it only saves work."""
    lucky = world.chance.choice([world.processes, world.processes[:1], world.processes[-1:]])
    world.lease(*lucky)


async def the_store_fails(world: World) -> None:
    weather, chance = world.weather, world.chance
    began = world.now_ms()
    match chance.choice(["away", "away", "deaf", "slow"]):
        case "away":
            weather.away = True
        case "deaf":
            weather.deaf = True
        case "slow":
            weather.slow_s = chance.choice([0.5, 2.5, 6.0])
    await asyncio.sleep(chance.choice([0.05, 1.0, 5.0, 15.0]))
    if chance.random() < 0.3:
        await approves(world)
        await asyncio.sleep(1.0)
    world.troubled(began)
    world.failures.append((began, world.now_ms()))
    clear(world)


def clear(world: World) -> None:
    world.weather.away = world.weather.deaf = False
    world.weather.slow_s = 0.0


async def chats_fail(world: World) -> None:
    chance = world.chance
    world.hanging = {chance.choice([*CHATS.values(), *PEOPLE.values()])} if chance.random() < 0.6 else set()
    world.bad_sends = chance.choice([0.0, 0.0, 0.3])


async def time_passes(world: World) -> None:
    await asyncio.sleep(world.chance.choice([10.0, 25.0, 61.0]))


DEED: Mapping[Callable[[World], Awaitable[None]], int] = {
    approves: 5,
    approves_as_told: 8,
    taps: 4,
    taps_twice: 3,
    taps_elsewhere: 2,
    forges: 2,
    taps_what_is_not_theirs: 2,
    types: 4,
    pauses: 2,
    a_traitor_writes: 3,
    changes_the_charter: 2,
    a_service_turns: 5,
    a_process_starts: 2,
    a_process_dies: 4,
    the_lease_moves: 2,
    the_store_fails: 3,
    chats_fail: 2,
    time_passes: 3,
}
