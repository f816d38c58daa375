"""Two tenants in one process: the same names, one person in both, and nothing of one in the other."""

from dataclasses import dataclass, replace

import pytest
from aiohttp.test_utils import TestClient, TestServer

from bot.adoption import Adoption
from bot.answer import Desk
from bot.app import application
from bot.channels.telegram import TelegramChannel, TelegramReceiver, build_application, builder
from bot.commands import Commands
from bot.conversation import MemoryConversations
from bot.outbox import Outbox
from bot.pages import DECIDE, LOOK, Pages
from bot.ports import Answer, Said, Tap, Verb
from bot.room import House
from bot.roster import console_code
from bot.tokens import MemoryCodes, Tokens
from handlers.charter import CharterError, load_all, parse
from ledger import events as ev
from ledger.events import Act
from ledger.machine import Stage
from tests.rooms import CHARTER, Tenant, evidence, tenant
from tests.sim.house import CHATS, PEOPLE, SECRET, NoLinkCodes, charter


@dataclass
class Two:
    """acme and beta as one process has them."""

    acme: Tenant
    beta: Tenant
    tokens: Tokens
    codes: MemoryCodes
    desk: Desk
    commands: Commands
    house: House
    acts: int = 0

    def act(self) -> Act:
        self.acts += 1
        return Act(channel="telegram", update=str(self.acts), digest="d" * 64)

    def read(self, data: str, chat: str, who: str) -> tuple[str, Tap]:
        """What Telegram's receiver makes of *data*, tapped in *chat*."""
        bot = build_application(builder("1:token", "http://127.0.0.1:1"))
        receiver = TelegramReceiver(
            bot, TelegramChannel(bot.bot, self.tokens), Outbox(self.acme.clock), self.commands, self.tokens,
            self.tenants, self._moved,
        )  # fmt: skip
        tenant, choice = receiver._read(data, chat, PEOPLE[who])
        tap = Tap(
            "telegram",
            PEOPLE[who],
            chat,
            choice.verb,
            choice.anchor,
            self.act(),
            choice.option,
            choice.genuine,
        )
        return tenant, tap

    async def taps(self, data: str, chat: str, who: str) -> Answer:
        tenant, tap = self.read(data, chat, who)
        return await self.commands.tapped(tenant, tap)

    async def says(self, who: str, text: str, chat: str = "") -> str:
        there = chat or PEOPLE[who]
        likeliest = self.tenants("telegram", there, PEOPLE[who]) or [""]
        said = Said("telegram", PEOPLE[who], there, text, self.act(), private=not chat)
        answer = await self.commands.said(likeliest[0], said)
        return answer.text if answer else ""

    def tenants(self, channel: str, chat: str, vendor_id: str) -> list[str]:
        return [room.tenant for room in self.house.of(channel, chat, vendor_id)]

    async def _moved(self, old: str, new: str) -> None:
        raise AssertionError(old, new)

    def button(self, of: str, request, verb: Verb = Verb.APPROVE, option: str = "1", chat: str = "") -> str:
        return self.tokens.mint(of, chat or CHATS[of], verb, option, request.hash)

    def untouched(self, there: Tenant, before: int) -> bool:
        """Whether nothing but refusals was appended since *before*."""
        log = there.room.store._logs[there.room.tenant][before:]
        return all(entry.event == "Refused" for entry in log)


async def two(*, adopted: bool = True) -> Two:
    acme = await tenant(charter("acme"), adopted=adopted)
    beta = await tenant(charter("beta"), acme.room.store, adopted=adopted)
    rooms = [acme.room, beta.room]
    acme.desk = beta.desk = desk = Desk(
        {room.tenant: room for room in rooms}, "bot.1", acme.desk._post, acme.desk._audit
    )
    codes, house = MemoryCodes(acme.clock), House(rooms)
    commands = Commands(
        house,
        desk,
        Adoption(SECRET, NoLinkCodes()),
        codes,
        MemoryConversations(acme.clock),
        lambda room: [],
        evidence(),
    )
    return Two(acme, beta, Tokens(SECRET, acme.clock), codes, desk, commands, house)


async def asking() -> tuple[Two, object, object]:
    """Both tenants ask about their own checkout-1."""
    here = await two()
    await here.acme.opens()
    await here.beta.opens()
    return here, await here.acme.asks(), await here.beta.asks()


# --- buttons ------------------------------------------------------------------------------------------


async def test_a_button_of_one_tenant_in_the_chat_of_another_is_not_genuine():
    here, acmes, _ = await asking()
    before = here.beta.room.ledger.view.head.seq
    tenant, tap = here.read(here.button("acme", acmes), CHATS["beta"], "farai")
    assert (tenant, tap.genuine) == ("beta", False)
    assert "not one I made" in (await here.commands.tapped(tenant, tap)).text
    assert here.acme.incident.stage is here.beta.incident.stage is Stage.VALIDATED
    assert here.untouched(here.beta, before)


async def test_the_same_choice_of_two_tenants_is_two_buttons():
    here, acmes, betas = await asking()
    data = {here.button(of, entry, chat="1002") for of in CHATS for entry in (acmes, betas)}
    assert len(data) == 4


@pytest.mark.parametrize("of", ["acme", "beta"])
async def test_who_is_of_both_decides_for_the_tenant_whose_button_it_is(of: str):
    here, *requests = await asking()
    request = dict(zip(CHATS, requests, strict=True))[of]
    answer = await here.taps(here.button(of, request, chat=PEOPLE["tendai"]), PEOPLE["tendai"], "tendai")
    assert answer.text.startswith("Approved")
    stages = {there.room.tenant: there.incident.stage for there in (here.acme, here.beta)}
    assert stages.pop(of) is Stage.AUTHORIZED
    assert list(stages.values()) == [Stage.VALIDATED]


async def test_a_genuine_button_for_another_tenants_entry_finds_nothing():
    here, acmes, _ = await asking()
    for verb in Verb:
        if verb is not Verb.ADOPT:
            answer = await here.taps(here.button("beta", acmes, verb), CHATS["beta"], "farai")
            assert answer.text.startswith("I find no incident here")
    assert here.untouched(here.beta, 4)
    assert here.acme.room.ledger.view.head.seq == 4


async def test_who_is_of_the_other_tenant_is_a_stranger_in_the_chat():
    here, acmes, _ = await asking()
    answer = await here.taps(here.button("acme", acmes), CHATS["acme"], "farai")
    assert answer.text.startswith("I do not know you")
    assert here.acme.incident.stage is Stage.VALIDATED
    refused = here.acme.incident.latest(ev.Refused)
    assert (refused.kind, refused.person) == ("stranger", "")
    assert "farai" not in refused.model_dump_json()


# --- whose a message is -------------------------------------------------------------------------------


async def test_a_message_is_for_the_chats_tenant_then_for_the_persons_in_their_order():
    here = await two()
    assert here.tenants("telegram", CHATS["beta"], PEOPLE["tendai"]) == ["beta"]
    assert here.tenants("telegram", CHATS["acme"], PEOPLE["farai"]) == ["acme"]
    assert here.tenants("telegram", PEOPLE["tendai"], PEOPLE["tendai"]) == ["acme", "beta"]
    assert here.tenants("telegram", PEOPLE["farai"], PEOPLE["farai"]) == ["beta"]
    assert here.tenants("telegram", "-5", PEOPLE["stranger"]) == []
    assert here.tenants("telegram", "-5", "") == []


async def test_a_chat_that_moved_stays_its_tenants():
    here = await two()
    here.beta.room.moved = {CHATS["beta"]: "-1009"}
    assert here.tenants("telegram", "-1009", PEOPLE["tendai"]) == ["beta"]
    assert here.tenants("telegram", CHATS["beta"], "") == []


def test_a_chat_belongs_to_one_tenant(tmp_path):
    (tmp_path / "acme.toml").write_text(CHARTER.replace("{approve}", "").replace("{risk}", "low"))
    beta = '[tenant]\nid = "beta"\n[[chats]]\ntelegram = -100200300\n'
    (tmp_path / "beta.toml").write_text(beta)
    with pytest.raises(CharterError, match="A chat belongs to one tenant"):
        load_all(tmp_path)
    (tmp_path / "beta.toml").write_text(beta.replace("300", "400"))
    assert [*load_all(tmp_path)] == ["acme", "beta"]


async def test_a_command_in_one_tenants_chat_tells_of_that_tenant_alone():
    here = await two()
    await here.beta.opens()
    assert "checkout-1" in await here.says("tendai", "/incidents", CHATS["beta"])
    assert await here.says("tendai", "/incidents", CHATS["acme"]) == "There was no incident yet."
    assert "I do not know you" in await here.says("farai", "/incidents", CHATS["acme"])


# --- codes, links, secrets ----------------------------------------------------------------------------


@pytest.mark.parametrize("recipient", ["tendai", "chat1"])
async def test_a_code_of_one_tenant_typed_in_another_is_wrong(recipient: str):
    here, acmes, _ = await asking()
    until_ms = acmes.data["deadline_ms"]
    code = await here.codes.issue("acme", recipient, acmes.hash, "1", until_ms)
    told = await here.says("tendai", f"/approve {code}", CHATS["beta"])
    assert "No open request has that code for you" in told
    assert here.acme.incident.stage is here.beta.incident.stage is Stage.VALIDATED
    assert (await here.says("tendai", f"/approve {code}", CHATS["acme"])).startswith("Approved")
    assert here.beta.incident.stage is Stage.VALIDATED


async def test_the_same_digits_mean_each_tenants_own_request():
    here, acmes, betas = await asking()
    codes = MemoryCodes(here.acme.clock, lambda below: 0)
    here.commands._codes = codes
    for of, request in (("acme", acmes), ("beta", betas)):
        assert await codes.issue(of, "chat1", request.hash, "1", request.data["deadline_ms"]) == "1000"
    await here.says("tendai", "/approve 1000", CHATS["beta"])
    assert here.acme.incident.stage is Stage.VALIDATED
    assert here.beta.incident.stage is Stage.AUTHORIZED


async def test_a_link_of_one_tenant_decides_nothing_in_another():
    here, acmes, betas = await asking()
    pages = Pages(here.house.rooms, here.desk, here.tokens).routes()
    tokens = [
        here.tokens.mint_link("beta", "tendai", Verb.APPROVE, "1", acmes.hash),
        here.tokens.mint_link("acme", "tendai", Verb.APPROVE, "1", betas.hash),
        here.tokens.mint_link("acme", "farai", Verb.APPROVE, "1", acmes.hash),
    ]
    async with TestClient(TestServer(application([], pages))) as client:
        for token in tokens:
            async with client.get(LOOK, params={"token": token}) as seen:
                assert seen.status == 403
            async with client.post(DECIDE, data={"token": token}) as decided:
                assert decided.status in {403, 409}
        assert here.acme.incident.stage is here.beta.incident.stage is Stage.VALIDATED
        good = here.tokens.mint_link("beta", "tendai", Verb.APPROVE, "1", betas.hash)
        async with client.post(DECIDE, data={"token": good}) as decided:
            assert decided.status == 200
    assert here.acme.incident.stage is Stage.VALIDATED
    assert here.beta.incident.stage is Stage.AUTHORIZED


async def test_the_consoles_code_of_one_tenant_opens_no_other():
    here = await two(adopted=False)
    code = console_code(SECRET, "beta")
    assert code != console_code(SECRET, "acme")
    assert "not valid" in await here.says("rudo", f"/start {code}")
    assert not here.acme.room.ledger.view.rules.charter
    assert not here.beta.room.ledger.view.rules.charter
    assert "Charter in force" in await here.says("farai", f"/start {code}")
    assert here.beta.room.ledger.view.rules.charter
    assert not here.acme.room.ledger.view.rules.charter


async def test_a_charter_is_adopted_by_its_own_admins_alone():
    here = await two()
    changed = charter("acme", "2 oncall")
    here.acme.room.proposed, before = changed, here.acme.room.ledger.view.rules
    for who, chat in (("farai", PEOPLE["farai"]), ("farai", CHATS["acme"]), ("tendai", PEOPLE["tendai"])):
        data = here.tokens.mint("acme", chat, Verb.ADOPT, "", changed.digest())
        await here.taps(data, chat, who)
    assert here.acme.room.ledger.view.rules == before
    data = here.tokens.mint("acme", PEOPLE["rudo"], Verb.ADOPT, "", changed.digest())
    await here.taps(data, PEOPLE["rudo"], "rudo")
    assert here.acme.room.ledger.view.rules.charter == changed.digest()


@pytest.mark.parametrize("name", ["BETA_CHECKOUT_RECOVERY", "ACMEX_RECOVERY", "ACME", "RECOVERY"])
def test_no_charter_names_a_secret_of_another_tenant(name: str):
    text = CHARTER.replace("{approve}", "1 oncall").replace("{risk}", "low")
    assert parse(text).tenant.id == "acme"
    with pytest.raises(CharterError, match="Let its name start with ACME_"):
        parse(text.replace("ACME_CHECKOUT_RECOVERY", name, 1))
    with pytest.raises(CharterError, match="is not this tenant's"):
        parse(text.replace('id = "checkout"', f'id = "checkout"\ntoken_env = "{name}"', 1))


def test_a_tenant_whose_name_begins_like_anothers_does_not_share_its_secrets(tmp_path):
    acme = CHARTER.replace("{approve}", "1 oncall").replace("{risk}", "low")
    (tmp_path / "acme.toml").write_text(acme)
    (tmp_path / "eu.toml").write_text('[tenant]\nid = "acme-eu"\n')
    assert [*load_all(tmp_path)] == ["acme", "acme-eu"]
    (tmp_path / "acme.toml").write_text(acme.replace("ACME_CHECKOUT", "ACME_EU_CHECKOUT"))
    with pytest.raises(CharterError, match="the secret ACME_EU_CHECKOUT_RECOVERY is acme-eu's"):
        load_all(tmp_path)


# --- what is shared -----------------------------------------------------------------------------------


async def test_one_tenants_pause_is_not_anothers():
    here = await two()
    await here.says("tendai", "/pause", CHATS["beta"])
    assert here.beta.room.ledger.view.is_paused(here.beta.room.now_ms())
    assert not here.acme.room.ledger.view.is_paused(here.acme.room.now_ms())


async def test_a_reason_is_noted_where_it_was_asked_for():
    here, acmes, _ = await asking()
    await here.taps(here.button("acme", acmes, Verb.DENY, ""), CHATS["acme"], "tendai")
    await here.says("tendai", "the disk is full", CHATS["beta"])
    assert here.acme.incident.latest(ev.Noted) is here.beta.incident.latest(ev.Noted) is None
    await here.says("tendai", "the disk is full", CHATS["acme"])
    assert here.acme.incident.latest(ev.Noted) is not None
    assert here.beta.incident.latest(ev.Noted) is None


async def test_a_refusal_in_one_tenant_does_not_silence_the_record_of_another():
    here, acmes, betas = await asking()
    for of, request in (("acme", acmes), ("beta", betas)):
        tap = Tap("telegram", PEOPLE["stranger"], CHATS[of], Verb.APPROVE, request.hash[:16], here.act(), "1")
        await here.commands.tapped(of, tap)
        await here.commands.tapped(of, replace(tap, act=here.act()))
    for there in (here.acme, here.beta):
        assert len(there.incident.every(ev.Refused)) == 1
