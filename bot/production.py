"""The program as it serves: every part made once and put together. Each process is the same.

Start: store, charters, ledgers, channels, web, then the work. Stop, within 20 s: no more intake, finish or
hand back what is in hand, say so in the ledger, close.
"""

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial

from aiohttp import web

from bot.adoption import Adoption
from bot.alerts import AlertDoor
from bot.alerts import Shelf as AlertShelf
from bot.answer import Desk
from bot.app import KEEPALIVE_S, Route, application
from bot.auditing_ways import Ways
from bot.auditor import Auditor
from bot.board import RedisBoard
from bot.channels.telegram import TelegramChannel, TelegramReceiver, build_application, builder
from bot.channels.twilio_api import TwilioApi
from bot.channels.whatsapp import WhatsAppChannel
from bot.channels.whatsapp_book import Book
from bot.channels.whatsapp_door import MESSAGES, STATUSES, WhatsAppDoor
from bot.channels.whatsapp_receiver import Missed, StatusReceiver, WhatsAppReceiver, page_failed
from bot.channels.whatsapp_templates import variable
from bot.charting import Charting
from bot.commands import COMMANDS, Commands
from bot.commits import CommitDoor
from bot.commits import Shelf as ChangeShelf
from bot.conversation import RedisConversations
from bot.erasing import Gone
from bot.errands import Errands
from bot.evidence import Evidence
from bot.glass import Reviewing
from bot.ingress import Inbox, Receiver, TelegramDoor
from bot.lasting import Part, lasting
from bot.lease import Lease
from bot.letters import TEMPLATES
from bot.notify import Notify, RedisShown
from bot.offbox import OffBox, RedisCursor, sink_key
from bot.opening import Building, find_rules, open_rooms
from bot.outbox import Outbox
from bot.pages import Invitations, Pages
from bot.ports import Address, Answer, Channel, SendError
from bot.press import Press
from bot.pushes import PushDoor, RedisShelf
from bot.reload import Reload
from bot.room import House, Room
from bot.seen import card_of
from bot.settings import Settings, Telegram, Twilio
from bot.state import (
    EnvironmentSecrets,
    RedisAsked,
    RedisLinkCodes,
    RedisLinks,
    RedisShadows,
    RedisStates,
    RedisTold,
)
from bot.status_service import ServiceStatus
from bot.stepup import RedisMarks, StepUp
from bot.tokens import Passes, RedisCodes, Tokens
from bot.truetime import against_redis
from bot.version import version
from bot.witnessed import Witnessed
from bot.work import Tools, Work, tenant_work
from handlers.adapters.anthropic import Claude
from handlers.adapters.commits import HttpCommits
from handlers.adapters.health import HttpHealth
from handlers.adapters.pushed import Pushed
from handlers.adapters.sink import HttpSink
from handlers.adapters.webhook import HttpWebhook
from handlers.adapters.witness import HttpWitness
from handlers.calls import Vendors
from handlers.charter import Person
from handlers.checked import Alarm
from handlers.crew import Crew
from handlers.detect import Detect
from handlers.lines import Lines
from handlers.ports import Model
from handlers.readings import reading_of
from handlers.shadow import Shadow
from ledger import events as ev
from ledger.clock import WallClock
from ledger.embedded import EmbeddedValkey
from ledger.erasure import erase
from ledger.events import Actor, Reading
from ledger.ledger import Refusal
from ledger.redis_store import Commands as Redis
from ledger.redis_store import RedisStore, commands, connect
from ledger.store import Durability, StoreDown

log = logging.getLogger(__name__)

SWEEP_S = 1.0
SHUTDOWN_S = 10.0
GREET_S = 3.0
LOOKS_AT_ONCE = 128
CONNECTIONS = 64
AT_THE_DOOR = 1024
"""Connections that may wait to be taken. Whom the kernel turns away comes again after a second."""


@dataclass(frozen=True, slots=True)
class Started:
    """What a started program is: its rooms, its work, and what its operator should read first."""

    rooms: Sequence[Room]
    work: Sequence[Work]
    greeting: Sequence[str]
    port: int


@asynccontextmanager
async def running(settings: Settings, environment: Mapping[str, str]) -> AsyncIterator[Started]:
    """The whole program, until the block ends."""
    async with AsyncExitStack() as stack:
        program = await _Program.build(settings, environment, stack)
        yield await program.start(stack)


class _Program:
    """The parts, and the order in which they begin and end."""

    def __init__(
        self,
        settings: Settings,
        environment: Mapping[str, str],
        redis: Redis,
        store: RedisStore,
        privacy: RedisStore,
    ) -> None:
        self.settings = settings
        self.clock = WallClock()
        self.process = f"{settings.dyno or 'bot'}.{secrets.token_hex(3)}"
        self.redis = redis
        self.store = store
        self.privacy = privacy
        self.links = RedisLinks(redis)
        self.tokens = Tokens(settings.alert_secret, self.clock)
        self.outbox = Outbox(self.clock)
        self.adoption = Adoption(settings.alert_secret, RedisLinkCodes(redis))
        self.codes = RedisCodes(redis, self.clock)
        self.shown = RedisShown(redis)
        self.changes = ChangeShelf(redis)
        self.alerts = AlertShelf(redis)
        self.shadows = RedisShadows(redis)
        self.secrets = EnvironmentSecrets(environment)
        self.inbox = Inbox(redis, self.process)
        self.channels: dict[str, Channel] = {}
        self.charting = Charting(redis, self.shown, self.outbox, self.channels, self.clock)
        self.receivers: dict[str, Receiver] = {}
        self.routes: list[Route] = []
        self.work: list[Work] = []
        self.greeting: list[str] = list(settings.notices)

    @classmethod
    async def build(
        cls, settings: Settings, environment: Mapping[str, str], stack: AsyncExitStack
    ) -> "_Program":
        """Connect to the store, or start the embedded one. There we may also be who erases for good."""
        server = None if settings.redis_url else await _embedded(settings, stack)
        url = server.url if server else settings.redis_url
        client = connect(url, tls_verify=settings.redis_tls_verify, connections=CONNECTIONS)
        store = RedisStore(
            client, declared=settings.durability_declared, archive=settings.data_dir / "archive"
        )
        stack.push_async_callback(store.close)
        if not settings.redis_deploy_url:  # else the release has loaded it, and this user may not
            await store.load_functions()
        privacy = RedisStore(connect(server.url_of("privacy"))) if server else store
        if server:
            stack.push_async_callback(privacy.close)
        return cls(settings, environment, commands(client), store, privacy)

    async def start(self, stack: AsyncExitStack) -> Started:
        building = Building(
            self.settings, self.store, self.redis, self.links, self.clock, self.process, version()
        )
        self.house = House(await open_rooms(building))
        for tenant in self.house.rooms:
            await self.shown.refresh(tenant)
        base, errands = self.settings.public_base_url, Errands(self._post)
        stack.push_async_callback(errands.close)
        passes = Passes(self.settings.alert_secret, self.clock)
        ways = Ways(passes, base) if base else None
        evidence = Evidence.of(errands, self.process, self.settings.alert_secret, self._erase, ways)
        desk = Desk(
            self.house.rooms,
            self.process,
            self._post,
            evidence.auditing.incident,
            card_of(self.shown),
            StepUp(self.settings.alert_secret, RedisMarks(self.redis)),
        )
        self.commands = Commands(
            self.house,
            desk,
            self.adoption,
            self.codes,
            RedisConversations(self.redis),
            self._condition,
            evidence,
            Invitations(self.tokens, base) if base else None,
            self.shadows,
            of_service=ServiceStatus(self._watch, self.charting.lookback, self.charting.easel).answer,
        )
        self.routes += Pages(self.house.rooms, desk, self.tokens).routes()
        self.routes += Auditor(self.house.rooms, passes, evidence.auditing.checks).routes()
        if self.settings.telegram:
            await self._open_telegram(self.settings.telegram, desk, stack)
        if self.settings.twilio:
            await self._open_whatsapp(self.settings.twilio, desk, stack)
        await self._assemble(stack)
        port = await self._serve(stack)
        await self._begin(stack)
        await self._greet()
        return Started(list(self.house.rooms.values()), self.work, self.greeting, port)

    async def _open_telegram(self, settings: Telegram, desk: Desk, stack: AsyncExitStack) -> None:
        bot = build_application(builder(settings.token, settings.api_base))
        channel = TelegramChannel(bot.bot, self.tokens)
        receiver = TelegramReceiver(
            bot, channel, self.outbox, self.commands, self.tokens, self._tenants, self._moved
        )
        door = TelegramDoor(
            self.inbox, self.clock, settings.secret, channel.not_run, receiver.handle, desk.turned_away
        )
        self.channels[channel.name] = channel
        stack.push_async_callback(receiver.close)
        self.receivers[door.kind] = receiver
        self.telegram, self.door = channel, door
        self.routes.append(Route("POST", "/telegram/webhook", door.webhook))

    async def _open_whatsapp(self, settings: Twilio, desk: Desk, stack: AsyncExitStack) -> None:
        api, book = TwilioApi(settings), Book(self.redis, self.clock)
        stack.push_async_callback(api.close)
        base = self.settings.public_base_url
        statuses = f"{base}/twilio/status" if base else ""
        channel = WhatsAppChannel(api, book, self.tokens, settings.content_sids, statuses)
        receiver = WhatsAppReceiver(
            channel,
            book,
            self.outbox,
            self.commands,
            self.tokens,
            self._tenants,
            self.codes.opened,
            api.number,
            self.clock,
        )
        door = WhatsAppDoor(self.inbox, self.clock, base, api.signed, receiver.known, desk.turned_away)
        self.channels[channel.name] = channel
        self.receivers |= {MESSAGES: receiver, STATUSES: StatusReceiver(book, self._undelivered)}
        self.routes.append(Route("POST", "/twilio/whatsapp", door.message))
        self.routes.append(Route("POST", "/twilio/status", door.status))
        self.missed = Missed(api, self.inbox, book, self.clock, door.lost)
        self.greeting += whatsapp_notices(settings, base)

    async def _undelivered(self, tenant: str, incident: str, recipient: str, why: str) -> None:
        room = self.house.rooms.get(tenant)
        if room:
            made = await room.ledger.record(
                Actor.orchestrator(self.process), page_failed(incident, recipient, why)
            )
            if isinstance(made, Refusal) and made.kind in {"ledger_away", "busy"}:
                raise StoreDown(f"That {recipient} was not reached is not in the ledger yet.")

    async def _assemble(self, stack: AsyncExitStack) -> None:
        health = HttpHealth(self.secrets, LOOKS_AT_ONCE)
        stack.push_async_callback(health.close)
        shelf = RedisShelf(self.redis)
        self.routes += PushDoor(self.house.rooms, self.secrets, shelf, self.clock).routes()
        self.routes += CommitDoor(self.house.rooms, self.secrets, self.changes, self.clock).routes()
        self.routes += AlertDoor(self.house.rooms, self.secrets, self.alerts, self.clock).routes()
        tools = Tools(
            clock=self.clock,
            process=self.process,
            health=Pushed(shelf, health),
            models=self._models(),
            webhook=HttpWebhook(),
            secrets=self.secrets,
            states=RedisStates(self.redis),
            adoption=self.adoption,
            outbox=self.outbox,
            looks=asyncio.Semaphore(LOOKS_AT_ONCE),
            interval_s=self.settings.loop_interval_s,
            copied=self._copied,
            witnessed=self._witnessed,
            reviewing=lambda room: Reviewing(room, RedisTold(self.redis), self._post),
            offset=against_redis(self.redis, self.settings.redis_url, self.clock),
            alarm=self._alarm,
            pictured=self.charting.pictures,
            share=lambda tenant: Crew(RedisBoard(self.redis), tenant, self.process),
            vendors=Vendors(self.settings.github_api_base, self.settings.heroku_api_base),
            lines=self._lines,
        )
        for room in self.house.rooms.values():
            lease = Lease(self.redis, self.clock, room.tenant, self.process)
            changes, alerts = self.changes.of(room.tenant), self.alerts.of(room.tenant)
            shadow = Shadow(room.tenant, self.shadows)
            detect = Detect(room.ledger, room.rulebook, changes, alerts, shadow=shadow)
            self.work.append(tenant_work(room, tools, detect, self._notify(room, detect), lease))

    def _notify(self, room: Room, detect: Detect) -> Notify:
        def measured(service: str) -> Reading | None:
            verdict = detect.verdict(room.tenant, service)
            return reading_of(service, verdict) if verdict else None

        return Notify(
            room.ledger,
            self.outbox,
            self.shown,
            room.rulebook,
            lambda charter, view: room.addresses(),
            Press(
                self.codes,
                reopen_ms=room.rulebook.policy(room.ledger.view).reopen_ms,
                warnings_ring=room.rulebook.policy(room.ledger.view).warnings_ring,
                now=measured,
                warning=lambda: durability_warning(room),
                models=2 if self.settings.council else 0,
                words=room.words,
            ),
            self.channels,
            self.clock,
            self.process,
            lambda charter, view, name: room.reach(name),
        )

    def _alarm(self, room: Room) -> Alarm:
        """Tells everybody on call in private, each once."""

        async def tell(text: str) -> None:
            on_call = [person for person in room.people.people if "oncall" in person.roles]
            await asyncio.gather(*(self._post(room, person, Answer(text)) for person in on_call))

        return tell

    def _copied(self, room: Room) -> OffBox | None:
        url, secret = self.settings.ledger_sink_url, sink_key(self.settings.alert_secret)
        return OffBox(room, HttpSink(url, secret), RedisCursor(self.redis)) if url else None

    def _witnessed(self, room: Room) -> Witnessed | None:
        told, secret = self.settings.ledger_witness, sink_key(self.settings.alert_secret)
        return Witnessed(room, HttpWitness(told.url, secret), told.key) if told else None

    def _lines(self, room: Room) -> Lines | None:
        base, token = self.settings.github_api_base, self.settings.github_token
        github = HttpCommits(base, token)
        return Lines(room.tenant, room.rulebook, self.changes, github, self.clock) if token else None

    def _models(self) -> dict[str, Model]:
        council = self.settings.council
        if council is None:
            return {}
        base = council.base_url or None
        return {
            "A": Claude(council.model_a, council.api_key, base_url=base),
            "B": Claude(council.model_b, council.api_key, base_url=base),
        }

    async def _serve(self, stack: AsyncExitStack) -> int:
        app = application([one.condition for one in self.work], self.routes)
        runner = web.AppRunner(
            app, access_log=None, keepalive_timeout=KEEPALIVE_S, shutdown_timeout=SHUTDOWN_S
        )
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        await web.TCPSite(runner, self.settings.host, self.settings.port, backlog=AT_THE_DOOR).start()
        return int(runner.addresses[0][1])

    async def _begin(self, stack: AsyncExitStack) -> None:
        """Start what runs until the end, each part under its own name."""
        parts: dict[str, Part] = {
            "inbox": partial(self.inbox.run, self.receivers),
            "sweep": self._sweep,
            "listen": self._listen,
            "reload": self._reload().run,
            **{f"work:{one.room.tenant}": one.run for one in self.work},
        }
        if self.settings.telegram:
            parts["telegram"] = self._meet_telegram
        if self.settings.twilio:
            parts["whatsapp"] = self.missed.run
        tasks = [asyncio.create_task(lasting(name, part), name=name) for name, part in parts.items()]
        stack.push_async_callback(self._end, tasks)

    def _reload(self) -> Reload:
        conditions = {one.room.tenant: one.condition for one in self.work}
        settings, asked = self.settings, RedisAsked(self.redis)
        return Reload(
            settings.charter, settings.policy, conditions, self.adoption, asked, self._post, self.clock
        )

    async def _end(self, parts: Sequence[asyncio.Task[None]]) -> None:
        for part in parts:
            part.cancel()
        await asyncio.gather(*parts, return_exceptions=True)
        for room in self.house.rooms.values():
            with suppress(TimeoutError):
                async with asyncio.timeout(2):
                    await room.ledger.record(
                        Actor.orchestrator(self.process),
                        lambda view, now: ev.Stopped(
                            decision="stop", reason=f"Process {self.process}", version=version()
                        ),
                    )
            await room.ledger.close()
        await self.outbox.close()

    async def _meet_telegram(self) -> None:
        """Tell Telegram where we are, or fetch from it where it cannot reach us. Again until it works."""
        pause = 1.0
        while True:
            try:
                await self.telegram.set_commands([(name, c.says) for name, c in COMMANDS.items()])
                if self.settings.public_base_url and self.settings.telegram and self.settings.telegram.secret:
                    url = f"{self.settings.public_base_url}/telegram/webhook"
                    return await self.telegram.set_webhook(url, self.settings.telegram.secret)
                poll = Lease(self.redis, self.clock, "telegram-poll", self.process)
                return await poll.run(lambda: self.telegram.poll(self.door.take))
            except SendError as error:
                log.warning("Telegram: %s Again in %d s.", error, pause)
                if error.permanent:
                    self.greeting.append(f"Telegram refuses the token or the address: {error}")
                await asyncio.sleep(pause)
                pause = min(60.0, pause * 2)

    async def _sweep(self) -> None:
        """Once a second: what makes wake-ups unnecessary."""
        while True:
            for one in self.work:
                for elsewhere in (one.condition.offbox, one.condition.witness):
                    if elsewhere and not one.lease.held:
                        with suppress(StoreDown):
                            await elsewhere.refresh()
            for room in self.house.rooms.values():
                await room.ledger.sweep()
                with suppress(StoreDown):
                    await self.links.refresh(room.tenant)
                    await self.shown.refresh(room.tenant)
                    await self.changes.refresh(room.tenant)
                    await self.alerts.refresh(room.tenant)
                    room.moved = self.shown.moved(room.tenant)
                    await find_rules(room)
            await asyncio.sleep(SWEEP_S)

    async def _listen(self) -> None:
        """Hints that another process has appended."""
        while True:
            with suppress(StoreDown):
                async for tenant in self.store.changes():
                    room = self.house.rooms.get(tenant)
                    if room:
                        await room.ledger.hint()
            await asyncio.sleep(SWEEP_S)

    def _tenants(self, channel: str, chat: str, vendor_id: str) -> Sequence[str]:
        return [room.tenant for room in self.house.of(channel, chat, vendor_id)]

    async def _moved(self, old: str, new: str) -> None:
        for room in self.house.of("telegram", old, ""):
            await self.shown.move(room.tenant, old, new)
            room.moved = self.shown.moved(room.tenant)

    async def _post(self, room: Room, person: Person, answer: Answer) -> bool:
        """Send to *person* in private, wherever that works first."""
        for to in room.private(person):
            channel = self.channels.get(to.channel)
            if channel and await self._said(channel, room.tenant, to, answer):
                return True
        return False

    async def _erase(self, room: Room, subject: str) -> Gone:
        count = await erase(room.store, room.tenant, [subject])
        return Gone(count, await self.privacy.write_anew())

    async def _said(self, channel: Channel, tenant: str, to: Address, answer: Answer) -> bool:
        try:
            await self.outbox.say(channel, tenant, to, answer)
        except SendError as error:
            log.warning("%s could not be told on %s: %s", to.recipient, to.channel, error)
            return False
        return True

    def _watch(self, room: Room) -> Detect:
        return next(one.condition.detect for one in self.work if one.room is room)

    def _condition(self, room: Room) -> Sequence[str]:
        return next(one.condition.lines() for one in self.work if one.room is room)

    async def _greet(self) -> None:
        for room in self.house.rooms.values():
            if not room.ledger.view.rules.charter:
                code = self.adoption.console_code(room)
                link = await self._link_with(code)
                say = f"{room.tenant}: no charter is in force. An admin sends, in private: /start {code}"
                self.greeting += [say, f"  or opens {link}"] if link else [say]
            elif self.adoption.pending(room):
                self.greeting.append(f"{room.tenant}: a changed charter waits for an admin's Adopt in chat.")

    async def _link_with(self, code: str) -> str:
        """The address that opens the bot with *code*; empty where there is no Telegram, or it is away."""
        if not self.settings.telegram:
            return ""
        with suppress(SendError, TimeoutError):
            async with asyncio.timeout(GREET_S):
                return f"https://t.me/{await self.telegram.me()}?start={code}"
        return ""


def whatsapp_notices(settings: Twilio, base_url: str) -> list[str]:
    """What an operator should know of a WhatsApp that is not set up wholly."""
    found = []
    if not base_url:
        found.append("WhatsApp hears nothing: PUBLIC_BASE_URL is not set, so no signature can be checked.")
    missing = [variable(name) for name in TEMPLATES if name not in settings.content_sids]
    if missing:
        found.append(
            f"WhatsApp reaches only who wrote within 24 hours: {', '.join(missing)} not set. "
            "`python -m bot templates` makes them."
        )
    return found


def durability_warning(room: Room) -> str:
    """What stands on every card while the ledger may lose entries, or nobody can tell."""
    kept = room.ledger.durability
    return "" if kept is Durability.DURABLE else kept.sentence


async def _embedded(settings: Settings, stack: AsyncExitStack) -> EmbeddedValkey:
    server = EmbeddedValkey(settings.data_dir)
    await server.start()
    stack.push_async_callback(server.stop)
    return server
