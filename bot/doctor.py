"""`python -m bot doctor`: what is well, what is not, and what to do about it. Nothing is mended by itself.

Each examination is a function that yields findings; one that cannot be made is itself a finding. What the
embedded server needs is started for as long as it takes.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass

from bot.channels.telegram import TelegramChannel, speaking
from bot.opening import read_charters
from bot.ports import SendError
from bot.release import WEBHOOK
from bot.roster import Roster
from bot.settings import BadSettings, Settings, read
from bot.state import EnvironmentSecrets, RedisLinks, salt
from bot.tokens import Tokens
from bot.words import many
from detectors.policy import BadOverride
from handlers.adapters.health import HttpHealth
from handlers.charter import Charter, CharterError, Person, Service
from handlers.ports import PortError
from ledger.clock import WallClock
from ledger.doctor import Finding, examine
from ledger.embedded import CannotStart, EmbeddedValkey
from ledger.keys import seed_of
from ledger.ledger import Ledger
from ledger.outside import NoteFile
from ledger.redis_store import Commands, RedisStore, commands, connect
from ledger.store import StoreDown
from ledger.view import View, epoch_ms

Say = Callable[[str], None]
Findings = AsyncIterator[Finding]
MARKS = {True: "well   ", False: "NOT SO ", None: "unknown"}
CLOCK_MS = 1_000
"""Further apart than this, deadlines and signatures of two machines begin to disagree."""


async def doctor(environment: Mapping[str, str], say: Say) -> int:
    """Say every finding, a line each. 0 all is well, 1 something is not, 2 something could not be seen."""
    judged: set[bool | None] = set()
    async for finding in diagnose(environment):
        judged.add(finding.well)
        say(f"{MARKS[finding.well]} {finding.sentence}")
    return 1 if False in judged else 2 if None in judged else 0


async def diagnose(environment: Mapping[str, str]) -> Findings:
    """Every finding, in the order in which they should be mended."""
    try:
        settings = read(environment)
    except BadSettings as wrong:
        for mistake in wrong.mistakes:
            yield Finding(False, mistake)
        return
    yield Finding(True, "The settings are good.")
    try:
        charters = [charter for charter, _ in read_charters(settings).values()]
    except (CharterError, BadOverride) as error:
        yield Finding(False, str(error))
        return
    patient = Patient(settings, environment, charters)
    for examination in EXAMINATIONS:
        async for finding in examination(patient):
            yield finding


@dataclass(frozen=True, slots=True)
class Patient:
    """What is examined."""

    settings: Settings
    environment: Mapping[str, str]
    charters: list[Charter]


async def _charters(patient: Patient) -> Findings:
    for charter in patient.charters:
        services = many(len(charter.services), "service")
        yield Finding(True, f"The charter of {charter.tenant.id} is good: {services}.")
        for name in _secret_names(charter):
            if patient.environment.get(name):
                yield Finding(True, f"The secret {name} is set.")
            else:
                yield Finding(False, f"The secret {name}, which the charter names, is not set. Set it.")


def _secret_names(charter: Charter) -> list[str]:
    return sorted({name for service in charter.services for name in service.secrets})


async def _store(patient: Patient) -> Findings:
    async with AsyncExitStack() as stack:
        try:
            url, deploy = await _urls(patient.settings, stack)
            verify = patient.settings.redis_tls_verify
            client, deployer = (connect(at, tls_verify=verify) for at in (url, deploy))
            store = RedisStore(client, declared=patient.settings.durability_declared)
            stack.push_async_callback(store.close)
            stack.push_async_callback(deployer.aclose)
            async for finding in examine(store, commands(deployer)):
                yield finding
            async for finding in _of_store(patient, store, commands(client)):
                yield finding
        except (CannotStart, StoreDown) as error:
            yield Finding(False, str(error))


async def _of_store(patient: Patient, store: RedisStore, redis: Commands) -> Findings:
    yield await _clock(redis)
    for charter in patient.charters:
        ledger = Ledger(
            charter.tenant.id,
            store,
            WallClock(),
            random.Random(),
            signer=seed_of(patient.settings.ledger_key),
            outside=NoteFile(patient.settings.data_dir / "state", charter.tenant.id, keeps=False),
        )
        await ledger.sweep()
        yield _ledger(ledger, charter)
        for caveat in ledger.caveats():
            yield Finding(None, caveat)
        async for finding in _people(patient, charter, ledger.view, redis):
            yield finding
        await ledger.close()


def _ledger(ledger: Ledger, charter: Charter) -> Finding:
    name, rules = charter.tenant.id, ledger.view.rules
    if ledger.sealed:
        return Finding(
            False, f"The ledger of {name} is sealed: {ledger.sealed} Run `python -m ledger verify`."
        )
    told = f"The ledger of {name}: {ledger.view.head.seq} entries"
    if not rules.charter:
        return Finding(False, f"{told}, no charter adopted. Start, and send the bot the console's code.")
    if rules.charter != charter.digest():
        return Finding(False, f"{told}; the charter's file waits for an admin's Adopt in chat.")
    return Finding(True, f"{told}, the charter's file is in force.")


async def _clock(redis: Commands) -> Finding:
    """How far this machine's clock is from the server's, half of the way there and back left out."""
    clock = WallClock()
    before = epoch_ms(clock.now())
    seconds, micros = await redis("TIME")
    after = epoch_ms(clock.now())
    there = int(seconds) * 1000 + int(micros) // 1000
    off = max(before - there, there - after, 0)
    if off > CLOCK_MS:
        return Finding(False, f"This clock and that of Redis are {off} ms apart. Let NTP set both.")
    return Finding(True, f"This clock and that of Redis agree within {max(off, after - before)} ms.")


async def _people(patient: Patient, charter: Charter, view: View, redis: Commands) -> Findings:
    """Whether everybody on call can be reached, and has opened the bot."""
    links = RedisLinks(redis)
    await links.refresh(charter.tenant.id)
    roster = Roster(charter.tenant.id, await salt(redis, charter.tenant.id), links)
    for person in charter.people:
        reached = {name: roster.reach(view, person, name) for name in ("telegram", "whatsapp")}
        if "oncall" in person.roles and not any(reached.values()):
            yield Finding(
                False, f"{person.name} is on call and has no account. An admin sends /link {person.id}."
            )
        if reached["telegram"]:
            yield await _opened(patient, person, reached["telegram"])


async def _opened(patient: Patient, person: Person, chat: str) -> Finding:
    telegram = patient.settings.telegram
    if telegram is None:
        return Finding(None, f"{person.name} is on Telegram, which is off: TELEGRAM_BOT_TOKEN is not set.")
    try:
        async with _channel(patient.settings) as channel:
            known = await channel.knows(chat)
    except SendError as error:
        return Finding(None, f"Whether {person.name} has opened the bot cannot be seen: {error}.")
    if known:
        return Finding(True, f"{person.name} has opened the bot.")
    return Finding(
        False, f"{person.name} has not opened the bot, so it may not write. Let them send it /start."
    )


async def _telegram(patient: Patient) -> Findings:
    if patient.settings.telegram is None:
        yield Finding(None, "Telegram is off: TELEGRAM_BOT_TOKEN is not set.")
        return
    try:
        async with _channel(patient.settings) as channel:
            yield Finding(True, f"Telegram knows this bot: @{await channel.me()}.")
            hook = await channel.hook()
    except SendError as error:
        remedy = "Copy TELEGRAM_BOT_TOKEN from @BotFather again." if error.permanent else "Try again."
        yield Finding(False if error.permanent else None, f"Telegram: {error}. {remedy}")
        return
    wanted = f"{patient.settings.public_base_url}{WEBHOOK}" if patient.settings.public_base_url else ""
    if hook.url == wanted:
        where = f"Updates come to {hook.url}" if hook.url else "Updates are asked for by the bot itself"
        yield Finding(True, f"{where}; {hook.pending} wait.")
    else:
        yield Finding(
            False,
            f"Telegram sends updates to {hook.url or 'nowhere'}, not to {wanted or 'nowhere, to be polled'}. "
            "Run `python -m bot release`, or start the bot.",
        )
    if hook.error:
        yield Finding(None, f"Telegram's last try to reach us failed: {hook.error}.")


def _channel(settings: Settings) -> AbstractAsyncContextManager[TelegramChannel]:
    telegram = settings.telegram
    if telegram is None:
        raise SendError("TELEGRAM_BOT_TOKEN is not set", permanent=True)
    return speaking(telegram.token, telegram.api_base, Tokens(settings.alert_secret, WallClock()))


async def _health(patient: Patient) -> Findings:
    """Every health address, asked at once."""
    health = HttpHealth(EnvironmentSecrets(patient.environment))
    asked = [
        _answers(health, charter, service) for charter in patient.charters for service in charter.services
    ]
    try:
        for finding in await asyncio.gather(*asked):
            yield finding
    finally:
        await health.close()


async def _answers(health: HttpHealth, charter: Charter, service: Service) -> Finding:
    if not service.health_url and not service.push:
        return Finding(True, f"{service.id} is watched by other tools, which post their alerts.")
    if service.push:
        return Finding(True, f"{service.id} pushes to /ingest/{charter.tenant.id}/{service.id}: see /status.")
    try:
        polled = await health.poll(charter, service, 0, epoch_ms(WallClock().now()))
    except PortError as error:
        return Finding(
            False, f"{service.id} {error} at {service.health_url}. Check the address, its token, and the app."
        )
    return Finding(True, f"{service.id} answers: {polled.tick.n} requests in its last seconds.")


async def _urls(settings: Settings, stack: AsyncExitStack) -> tuple[str, str]:
    """Where the store is, for the app and the release. The embedded one is started, or met where it runs."""
    if settings.redis_url:
        return settings.redis_url, settings.redis_deploy_url or settings.redis_url
    server = EmbeddedValkey(settings.data_dir)
    await server.start()
    stack.push_async_callback(server.stop)
    return server.url, server.url_of("deploy")


EXAMINATIONS: tuple[Callable[[Patient], Findings], ...] = (_charters, _store, _telegram, _health)
