"""The tenth play: a second tenant and an anonymous attacker try the whole list of threats.

Each attack is followed by a look at both ledgers: nothing of acme moved that may not, nothing ran, everybody
was answered, and what was tried is on record. At the end acme's people approve, and exactly that runs, once.
"""

from collections.abc import Collection

import aiohttp

from bot.sandbox.attacks import SAYS_APPROVED, THREATS, Attacker, Threat
from bot.sandbox.neighbours import LAB, Neighbours
from bot.sandbox.phone import Unmet
from bot.sandbox.scene import ASK_S, CARD_S, END_S, Scene, answered
from bot.sandbox.world import MODEL_A, MODEL_B
from ledger.chain import Entry

MOVES = frozenset(
    {"Proposed", "Validated", "Approved", "Authorized", "Withdrawn", "Denied", "Expired", "AskedAgain",
     "ExecutionStarted", "Executed", "Resolved", "Paused", "Resumed", "Acknowledged", "StoodDown"}
)  # fmt: skip
"""What nobody may make acme's ledger say by an attack."""


async def hostile_tenant(scene: Scene) -> None:
    """Another tenant and an attacker try every threat: each is refused, answered and recorded."""
    stage = scene.stage
    if not isinstance(stage, Neighbours):
        raise Unmet("this play needs two tenants")
    models = stage.world.models
    models.dissent(MODEL_A, MODEL_B, ("database", "network"))
    for model, cause in ((MODEL_A, "database"), (MODEL_B, "network")):
        models.script(model, cause=cause, p=0.8, why=SAYS_APPROVED)
    await scene.breaks("the database pool is exhausted, for both tenants", db=True)
    async with aiohttp.ClientSession() as web:
        eve = Attacker(stage, web)
        await eve.rudo.expects_button("Trust theory A", CARD_S + ASK_S)
        await eve.theirs(LAB)
        failed = [name for name, threat in THREATS.items() if not await _tried(scene, eve, name, threat)]
    if failed:
        raise Unmet(f"not withstood: {', '.join(failed)}")
    answered(await scene.taps("tendai", "Trust theory A"), "Approved")
    await scene.phone("rudo").expects("checkout recovered", END_S)
    await scene.ran_once("restart_workers")


async def _tried(scene: Scene, eve: Attacker, name: str, threat: Threat) -> bool:
    """Whether acme withstood it; a line of the checklist says how."""
    before = len(await eve.stage.entries())
    eve.told.clear()
    try:
        await threat.run(eve)
        _answered(eve.told)
        _nothing_ran(await scene.runs())
        ours, theirs = await eve.stage.entries(), await eve.stage.theirs()
        _nothing_moved(ours[before:], threat.may)
        _on_record([*ours, *theirs], threat.marks)
    except (Unmet, aiohttp.ClientError, StopIteration, IndexError) as why:
        scene.tell("check", f"✗ {name}: {why or type(why).__name__}")
        return False
    marks = f"on record as {', '.join(sorted(threat.marks))}" if threat.marks else "a look leaves no trace"
    scene.tell("check", f"✓ {name}: refused, answered {len(eve.told)} times, {marks}")
    return True


def _answered(told: Collection[str]) -> None:
    if not told:
        raise Unmet("nobody was answered")


def _nothing_ran(hooks: Collection[object]) -> None:
    if hooks:
        raise Unmet(f"something of acme's ran: {hooks}")


def _nothing_moved(entries: Collection[Entry], may: Collection[str]) -> None:
    moved = {entry.event for entry in entries} & MOVES - set(may)
    if moved:
        raise Unmet(f"it moved something: {', '.join(sorted(moved))}")


def _on_record(entries: Collection[Entry], marks: Collection[str]) -> None:
    found = {entry.event for entry in entries} | {str(entry.data.get("kind", "")) for entry in entries}
    if missing := set(marks) - found:
        raise Unmet(f"not on record: {', '.join(sorted(missing))}")
