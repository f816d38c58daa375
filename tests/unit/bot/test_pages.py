"""A link is looked at freely and decides once, for its own person, through the desk that decides all taps."""

import re
from contextlib import asynccontextmanager
from dataclasses import dataclass

import jwt
import pytest
from aiohttp.test_utils import TestClient, TestServer
from yarl import URL

from bot.app import application
from bot.commands import Commands
from bot.conversation import MemoryConversations
from bot.pages import Invitations, Pages
from bot.ports import Said, Verb
from bot.room import House
from bot.tokens import MemoryCodes, Tokens
from ledger import events as ev
from ledger.events import Act
from ledger.machine import Stage
from ledger.store import MemoryStore, StoreDown
from tests.rooms import IDS, Tenant, charter, evidence, tenant

SECRET = b"a secret of the operator, 32 bytes or more"
BASE = "https://bot.acme.example"
LOOK, DECIDE = "/action/recover", "/action/recover/confirm"


@dataclass
class Browser:
    """Somebody's browser, and the program that it talks to."""

    acme: Tenant
    tokens: Tokens
    client: TestClient

    def link(self, who: str, request, verb: Verb = Verb.APPROVE, option: str = "1", of: str = "acme") -> str:
        return self.tokens.mint_link(of, who, verb, option if verb is Verb.APPROVE else "", request.hash)

    async def looks(self, token: str, **headers: str) -> tuple[int, str]:
        async with self.client.get(LOOK, params={"token": token}, headers=headers) as response:
            return response.status, await response.text()

    async def confirms(self, token: str, reason: str = "") -> tuple[int, str]:
        async with self.client.post(DECIDE, data={"token": token, "reason": reason}) as response:
            return response.status, await response.text()


@asynccontextmanager
async def browser(rules=None, store=None):
    acme = await tenant(rules, store)
    tokens = Tokens(SECRET, acme.clock)
    routes = Pages({"acme": acme.room}, acme.desk, tokens).routes()
    async with TestClient(TestServer(application([], routes))) as client:
        yield Browser(acme, tokens, client)


def forged(ours: Tokens, request, **changes) -> str:
    claims = jwt.decode(
        ours.mint_link("acme", "rudo", Verb.APPROVE, "1", request.hash), options={"verify_signature": False}
    )
    key, algorithm = changes.pop("key", ours._link_key), changes.pop("algorithm", "HS256")
    return jwt.encode({**claims, **changes}, key, algorithm, headers={"kid": ours._kid})


async def test_the_page_shows_exactly_what_would_run():
    async with browser() as rudo:
        await rudo.acme.opens()
        request = await rudo.acme.asks()
        status, page = await rudo.looks(rudo.link("rudo", request))
    assert status == 200
    for shown in (
        "Approve: Restart workers (checkout)",
        "19 % of requests fail",
        "POST http://127.0.0.1:9001/recover/restart_workers",
        "Open until 14:05:00 (Africa/Harare), 5 min from now.",
        "1 oncall: 0 of 1 so far",
        "Rudo",
        "low.",
        "To undo it",
        f"checkout-1 · #{request.seq}",
        "Nothing will run without your approval",
    ):
        assert shown in page


async def test_looking_changes_nothing_however_often_and_whoever_looks():
    async with browser() as rudo:
        await rudo.acme.opens()
        token = rudo.link("rudo", await rudo.acme.asks())
        before = rudo.acme.room.ledger.view.head
        for headers in ({}, {"User-Agent": "TelegramBot (like TwitterBot)"}, {"Sec-Purpose": "prefetch"}):
            assert (await rudo.looks(token, **headers))[0] == 200
        async with rudo.client.head(LOOK, params={"token": token}) as response:
            assert response.status == 200
        await rudo.looks(token + "x")
        async with rudo.client.get(DECIDE, params={"token": token}) as response:
            assert response.status == 405
        assert rudo.acme.room.ledger.view.head == before


async def test_confirming_authorizes_as_a_tap_does():
    async with browser() as rudo:
        await rudo.acme.opens()
        request = await rudo.acme.asks()
        token = rudo.link("rudo", request)
        status, page = await rudo.confirms(token)
        assert status == 200
        assert "Approved 14:00:00. “Restart workers” is running." in page
        fact, authorized = rudo.acme.incident.authorization
    assert (fact.actor.id, fact.actor.via, authorized.ref.hash) == ("rudo", "link", request.hash)
    assert authorized.act.channel == "link"
    assert authorized.act.update == rudo.tokens.read_link(token).jti
    assert len(authorized.act.digest) == 64
    assert re.search(rf"#{fact.seq} · [0-9A-Z]{{4}}-", page)


async def test_the_forms_own_fields_confirm():
    async with browser() as rudo:
        await rudo.acme.opens()
        token = rudo.link("rudo", await rudo.acme.asks())
        _, page = await rudo.looks(token)
        form = re.search(r'<form method="post" action="([^"]+)">', page)[1]
        hidden = dict(re.findall(r'name="(\w+)" value="([^"]*)"', page))
        address = rudo.client.make_url(LOOK).join(URL(form))
        assert address.path == DECIDE
        async with rudo.client.post(address.path, data=hidden) as response:
            assert response.status == 200
        assert rudo.acme.incident.stage is Stage.AUTHORIZED
        _, authorized = rudo.acme.incident.authorization
    assert authorized.card_digest == hidden["seen"]
    assert len(hidden["seen"]) == 64


@pytest.mark.parametrize("seen", ["", "f" * 64, "é"])
async def test_a_page_that_does_not_read_so_now_is_not_named(seen):
    async with browser() as rudo:
        await rudo.acme.opens()
        token = rudo.link("rudo", await rudo.acme.asks())
        async with rudo.client.post(DECIDE, data={"token": token, "seen": seen}) as response:
            assert response.status == 200
        _, authorized = rudo.acme.incident.authorization
    assert authorized.card_digest == ""


async def test_a_link_used_twice_is_told_who_decided():
    async with browser() as people:
        await people.acme.opens()
        request = await people.acme.asks()
        token = people.link("rudo", request)
        await people.confirms(token)
        status, page = await people.confirms(token)
        assert status == 409
        assert "Rudo was first, 14:00:00" in page
        status, page = await people.confirms(people.link("tendai", request))
        assert (status, "Rudo was first" in page) == (409, True)
        status, page = await people.looks(token)
        assert "Rudo was first" in page
        assert "<form" not in page
        assert people.acme.events().count("Authorized") == 1


async def test_the_page_is_the_second_look_that_high_risk_asks_for():
    async with browser(charter(risk="high")) as rudo:
        await rudo.acme.opens()
        token = rudo.link("rudo", await rudo.acme.asks())
        _, page = await rudo.looks(token)
        assert "high." in page
        assert (await rudo.confirms(token))[0] == 200
        assert rudo.acme.incident.stage is Stage.AUTHORIZED


async def test_a_vote_by_link_counts_towards_a_quorum():
    async with browser(charter(approve="2 oncall")) as people:
        await people.acme.opens()
        request = await people.acme.asks()
        _, page = await people.confirms(people.link("rudo", request))
        assert "1 of 2" in page
        assert people.acme.incident.stage is Stage.VALIDATED
        _, page = await people.looks(people.link("tendai", request))
        assert "2 oncall: 1 of 2 so far" in page
        await people.confirms(people.link("tendai", request))
        assert people.acme.incident.stage is Stage.AUTHORIZED


async def test_a_denial_keeps_its_reason_beside_the_ledger():
    async with browser() as rudo:
        await rudo.acme.opens()
        token = rudo.link("rudo", await rudo.acme.asks(), Verb.DENY)
        _, page = await rudo.looks(token)
        assert "Why?" in page
        assert (await rudo.confirms(token, "a load test"))[0] == 200
        denied = rudo.acme.incident.latest(ev.Denied)
        assert await rudo.acme.room.words(denied.words) == "a load test"


async def test_a_link_gives_nobody_a_right_that_the_charter_does_not():
    async with browser() as tariro:
        await tariro.acme.opens()
        token = tariro.link("tariro", await tariro.acme.asks())
        _, page = await tariro.looks(token)
        assert "You are not an approver" in page
        assert "<form" not in page
        assert (await tariro.confirms(token))[0] == 409
        assert tariro.acme.incident.stage is Stage.VALIDATED
        assert tariro.acme.incident.latest(ev.Refused).person == "tariro"


async def test_who_left_the_charter_decides_nothing():
    async with browser() as gone:
        await gone.acme.opens()
        token = gone.link("thandi", await gone.acme.asks())
        status, page = await gone.looks(token)
        assert (status, "not in the charter" in page) == (403, True)
        status, page = await gone.confirms(token)
        assert (status, "I do not know you" in page) == (409, True)
        assert gone.acme.incident.stage is Stage.VALIDATED


async def test_forged_altered_and_foreign_links_decide_nothing():
    async with browser() as eve:
        await eve.acme.opens()
        request = await eve.acme.asks()
        good = eve.link("rudo", request)
        head, body, signature = good.split(".")
        tokens = [
            "",
            "no.token",
            good[:-4] + "AAAA",
            f"{head}.{body[:-2]}AA.{signature}",
            forged(eve.tokens, request, key="", algorithm="none"),
            forged(eve.tokens, request, key=b"another key, of more than 32 bytes"),
            forged(eve.tokens, request, aud="countersign/other"),
            forged(eve.tokens, request, verb=Verb.RESOLVE.value),
            eve.link("rudo", request, of="umbrella"),
            Tokens(SECRET[::-1], eve.acme.clock).mint_link("acme", "rudo", Verb.APPROVE, "1", request.hash),
            "x" * 5000,
        ]
        before = eve.acme.room.ledger.view.head.seq
        for look_or_decide in (eve.looks, eve.confirms):
            assert eve.acme.room.ledger.view.head.seq == before  # also after all looks
            for token in tokens:
                status, page = await look_or_decide(token)
                assert status == 403, token
                assert "Nothing was run." in page
                assert "checkout" not in page
        [refused] = await eve.acme.room.store.read("acme", before, 10)
        assert (refused.event, refused.data["kind"]) == ("Refused", "forged_link")


async def test_another_tenants_request_is_not_found_behind_a_link():
    async with browser() as eve:
        await eve.acme.opens()
        await eve.acme.asks()
        token = eve.tokens.mint_link("acme", "rudo", Verb.APPROVE, "1", "ab" * 32)
        assert (await eve.looks(token))[0] == 403
        assert (await eve.confirms(token))[0] == 409
        assert eve.acme.incident.stage is Stage.VALIDATED


async def test_a_link_is_over_after_five_minutes_and_says_what_to_do():
    async with browser() as late:
        await late.acme.opens()
        token = late.link("rudo", await late.acme.asks(life_ms=900_000))
        late.acme.clock.advance(300)
        for status, page in (await late.looks(token), await late.confirms(token)):
            assert status == 403
            assert "good for five minutes and is over" in page
            assert "Send /approve to the bot in private" in page
        assert late.acme.incident.stage is Stage.VALIDATED
        [refused] = await late.acme.room.store.read("acme", late.acme.room.ledger.view.head.seq - 1, 10)
        assert (refused.data["kind"], refused.data["person"]) == ("late_link", "rudo")


async def test_a_link_that_decided_once_does_not_decide_again_after_the_vote_is_taken_back():
    async with browser(charter(approve="2 oncall")) as people:
        await people.acme.opens()
        request = await people.acme.asks()
        token = people.link("rudo", request)
        await people.confirms(token)
        await people.acme.taps_on("rudo", Verb.WITHDRAW, request.hash)
        for copy in (token, token + "="):
            _, page = await people.confirms(copy)
            assert "decided once" in page or "not one of ours" in page
        assert people.acme.incident.votes() == {"1": set()}
        await people.confirms(people.link("rudo", request))
        assert people.acme.incident.votes() == {"1": {"rudo"}}


async def test_a_look_after_the_deadline_renews_nothing_but_a_confirmation_asks_again():
    async with browser() as late:
        await late.acme.opens()
        token = late.link("rudo", await late.acme.asks(life_ms=60_000))
        late.acme.clock.advance(90)
        _, page = await late.looks(token)
        assert "Too late by 30 s, nothing was run." in page
        assert "<form" not in page
        assert late.acme.incident.stage is Stage.VALIDATED
        _, page = await late.confirms(token)
        assert "Renewed with fresh numbers" in page
        assert late.acme.incident.stage is Stage.DETECTED


async def test_the_page_is_small_private_and_without_script():
    rules = charter()
    async with browser(rules) as rudo:
        await rudo.acme.opens()
        hostile = rudo.acme.option().model_copy(update={"title": "<script>alert(1)</script>" * 2})
        token = rudo.link("rudo", await rudo.acme.asks(hostile))
        async with rudo.client.get(LOOK, params={"token": token}) as response:
            page, headers = await response.text(), response.headers
    assert len(page.encode()) < 10_000
    assert "<script" not in page
    assert headers["Cache-Control"] == "no-store"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["X-Frame-Options"] == "DENY"
    for rule in ("default-src 'none'", "style-src 'unsafe-inline'", "form-action 'self'"):
        assert rule in headers["Content-Security-Policy"]


class Failing(MemoryStore):
    away = False

    async def append(self, tenant, entries, expected, note=""):
        if self.away:
            raise StoreDown("Redis does not answer.")
        return await super().append(tenant, entries, expected, note)

    async def read(self, tenant, after, limit):
        if self.away:
            raise StoreDown("Redis does not answer.")
        return await super().read(tenant, after, limit)

    async def put_secret_value(self, tenant, commitment, value):
        if self.away:
            raise StoreDown("Redis does not answer.")
        await super().put_secret_value(tenant, commitment, value)


@pytest.mark.parametrize("verb", [Verb.APPROVE, Verb.DENY])
async def test_without_the_ledger_nothing_is_decided_and_the_page_says_so(verb):
    store = Failing()
    async with browser(store=store) as rudo:
        await rudo.acme.opens()
        token = rudo.link("rudo", await rudo.acme.asks(), verb)
        store.away = True
        status, page = await rudo.confirms(token, "why not")
        assert status == 409
        assert "the ledger cannot be written" in page
        assert rudo.acme.incident.stage is Stage.VALIDATED


async def test_a_form_of_somebody_elses_is_refused():
    async with browser() as eve:
        for body in (b"a=1&b=2&c=3&d=4&e=5&token=x", b"\xff\xfe=\x00"):
            async with eve.client.post(DECIDE, data=body) as response:
                assert response.status in {400, 403}
                assert "Nothing was run." in await response.text()


# --- the links in chat ----------------------------------------------------------------------------------


def desk_of(acme: Tenant) -> Commands:
    return Commands(
        House([acme.room]),
        acme.desk,
        adoption=None,
        codes=MemoryCodes(acme.clock),
        conversations=MemoryConversations(acme.clock),
        condition=lambda room: [],
        evidence=evidence(),
        invitations=Invitations(Tokens(SECRET, acme.clock), BASE),
    )


def said(who: str, text: str, *, private: bool = True) -> Said:
    return Said("telegram", IDS[who], IDS[who], text, Act(channel="telegram"), private=private)


async def test_approve_without_a_code_answers_with_links_in_private_alone():
    acme = await tenant()
    await acme.opens()
    request = await acme.asks(acme.option("A", theory="A"), acme.option("B", "switch_payments", "B"))
    answer = await desk_of(acme).said("acme", said("rudo", "/approve"))
    links = re.findall(rf"{re.escape(BASE)}{LOOK}\?token=(\S+)", answer.text)
    read = [Tokens(SECRET, acme.clock).read_link(token) for token in links]
    assert [(link.person, link.verb, link.option) for link in read] == [
        ("rudo", Verb.APPROVE, "A"),
        ("rudo", Verb.APPROVE, "B"),
        ("rudo", Verb.DENY, ""),
    ]
    assert {link.anchor for link in read} == {request.hash}
    assert "Trust theory A: Restart workers" in answer.text
    public = await desk_of(acme).said("acme", said("rudo", "/approve", private=False))
    assert "token=" not in public.text


async def test_who_may_not_approve_gets_no_link():
    acme = await tenant()
    await acme.opens()
    await acme.asks()
    answer = await desk_of(acme).said("acme", said("tariro", "/approve"))
    assert "token=" not in answer.text
    assert "Nothing is asked that you could approve" in answer.text
