"""The promises, seen from outside: by phones, the recovery endpoint and the ledger of the real program."""

import time

import pytest

from bot.sandbox.chats import Kind
from bot.sandbox.stage import Stage
from bot.sandbox.world import GROUP, HEALTH, MODEL_A, MODEL_B, STRANGER
from ledger.view import epoch_ms
from tests.stages import (
    ASK_S,
    CARD_S,
    END_S,
    QUICK,
    Scene,
    a_scene,
    an_environment,
    an_incident,
    breaks,
    short_folder,
    the_books,
    until,
)

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("promises")]

THEIRS = -100200400
UMBRELLA = f"""
[tenant]
id = "umbrella"
timezone = "UTC"
allow_networks = ["127.0.0.0/8"]

[[people]]
id = "albert"
name = "Albert"
roles = ["oncall", "admin"]
telegram = {STRANGER}

[[chats]]
telegram = {THEIRS}

[[services]]
id = "lab"
health_url = "HEALTH_URL"
token_env = "UMBRELLA_LAB_HEALTH"
"""


def changed(data):
    """The button's data with one character of its MAC another."""
    return data[:-1] + ("A" if data[-1] != "A" else "B")


# --- 1: no tap, no run ------------------------------------------------------------------------------------


async def test_whoever_taps_without_being_entitled_runs_nothing_and_is_told_why():
    async with an_incident(approve="1 admin") as (scene, books):
        rudo, tendai, stranger = (scene.phone(who) for who in ("rudo", "tendai", "stranger"))
        press = rudo.sees("Approve")
        told = {
            "unknown": await stranger.presses(press.message, press.data),
            "unentitled": await tendai.presses(press.message, press.data),
            "forged": await rudo.presses(press.message, changed(press.data)),
            "nonsense": await rudo.presses(press.message, "v|ap|1|0000|0000"),
        }
        assert told["unknown"].text.startswith("I do not know you")
        assert "Rudo can" in told["unentitled"].text
        assert told["forged"].text.startswith("This button is not one I made")
        assert "othing" in told["nonsense"].text or "not one I made" in told["nonsense"].text
        in_private = scene.stage.world.phone("rudo").in_private
        await in_private.expects_button("Approve", ASK_S)
        elsewhere = in_private.sees("Approve")
        assert "not one I made" in (await rudo.presses(press.message, elsewhere.data)).text
        await scene.ran_nothing()
        count = await books.count()
        assert (count["Authorized"], count["ExecutionStarted"]) == (0, 0)
        assert count["Refused"] >= 3


# --- 2: a model moves nothing -----------------------------------------------------------------------------


OF_THE_CHARTER = ("Restart checkout workers (POST", "Switch to payments fallback (POST")
"""Whatever a model names: what a card offers is one of these."""


@pytest.mark.parametrize(
    ("first", "second"),
    [("injection", "garbage"), ("out_of_range", "refusal"), ("unauthorized", "rate_limited")],
)
async def test_whatever_models_answer_they_write_opinions_alone_and_people_are_asked(first, second):
    async with a_scene() as scene, the_books(scene) as books:
        models = scene.stage.world.models
        models.scripts.clear()
        models.script(MODEL_A, first)
        models.script(MODEL_B, second)
        card = await breaks(scene)
        card.says("Your tap runs exactly this, once", "Nothing will run without your approval")
        assert any(title in card.text for title in OF_THE_CHARTER)
        card.does_not_say("<script>", "evil.example", "Both models agree", "gremlins")
        await scene.ran_nothing()
        by_models = [entry for entry in await books.entries() if entry.actor["kind"] == "model"]
        assert {entry.event for entry in by_models} == {"Diagnosed"}
        assert {entry.stage for entry in by_models} <= {"DETECTED", "PROPOSED", "VALIDATED"}
        assert (await scene.phone("rudo").taps("Approve")).text.startswith("Approved")
        await books.shows("Executed")


# --- 3: policy always speaks ------------------------------------------------------------------------------


async def test_people_are_told_within_a_second_of_the_verdict_while_both_models_hang():
    async with a_scene() as scene, the_books(scene) as books:
        scene.stage.world.models.down("hang")
        await scene.breaks("the database pool is exhausted", db=True)
        rudo = scene.phone("rudo")
        await rudo.expects_card("checkout", CARD_S)
        opened = await books.shows("Detected")
        card = next(one for one in rudo.seen() if one.labels)
        verdict = epoch_ms(opened.at) / 1000 - time.time() + time.monotonic()
        assert card.came - verdict < 1.0
        assert "Two models are looking" in rudo.history()[-1]
        asked = await rudo.expects_button("Approve", ASK_S)
        asked.says("No model answered")
        assert asked.now.at - verdict < 14


# --- 7: tenants -------------------------------------------------------------------------------------------


class TwoTenants(Stage):
    """acme and umbrella under one program. Albert of umbrella is a stranger to acme, and in its group."""

    def write_charter(self, **changes):
        super().write_charter(**changes)
        charters = self.folder / "charters"
        charters.mkdir(exist_ok=True)
        (self.folder / "charter.toml").rename(charters / "acme.toml")
        text = UMBRELLA.replace("HEALTH_URL", self.world.shop.health_url)
        (charters / "umbrella.toml").write_text(text)
        self.world.telegram.chats.add_group(THEIRS, "umbrella on-call", {STRANGER})

    def environment(self):
        own = {"CHARTER": str(self.folder / "charters"), "UMBRELLA_LAB_HEALTH": self.world.keys[HEALTH]}
        return super().environment() | own


async def test_one_tenant_never_sees_approves_or_is_told_of_anothers():
    with short_folder() as folder:
        settings = {"LOOP_INTERVAL_S": "1"}
        stage = TwoTenants(folder, an_environment(), charter={"policy": QUICK}, settings=settings)
        async with stage:
            await stage.adopt()
            scene = Scene(stage, lambda who, what: None)
            stage.world.models.consensus("database")
            await breaks(scene)
            albert = stage.world.phone("stranger")
            press = scene.phone("rudo").sees("Approve")
            answer = await albert.presses(press.message, press.data)
            assert answer.text.startswith("I do not know you")
            await scene.ran_nothing()
            for command in ("/status", "/incidents", "/audit", "/incident checkout-1", "/approve 4812"):
                await albert.in_private.sends(command)
            await albert.in_private.expects("I know no such incident")
            albert.in_private.never_read("checkout").never_read("acme")
            told = [
                h for h in stage.world.telegram.chats.journal if h.kind is Kind.SENT and h.chat_id == THEIRS
            ]
            assert told == []


# --- 8: every tap gets an answer --------------------------------------------------------------------------


async def test_each_tap_gets_one_answer_also_a_late_a_double_and_a_contrary_one():
    async with an_incident() as (scene, books):
        telegram, rudo, tendai = scene.stage.world.telegram, scene.phone("rudo"), scene.phone("tendai")
        approve, deny = rudo.sees("Approve"), tendai.sees("Deny")
        taps = [
            telegram.tap(rudo.user_id, approve.message, approve.data),
            telegram.tap(rudo.user_id, approve.message, approve.data),
            telegram.tap(tendai.user_id, approve.message, approve.data),
        ]
        await until(lambda: all(tap.answer for tap in taps), "each tap is answered")
        won = [tap.answer.text for tap in taps if tap.answer.text.startswith("Approved")]
        assert len(won) == 1
        assert (await deny.again()).text.startswith("Too late to deny: approved by")
        await rudo.expects("checkout recovered", END_S)
        assert (await approve.again()).text.startswith("Nothing to do:")
        assert len(telegram.answers) == 5
        assert len({answer.query_id for answer in telegram.answers}) == 5
        assert len(await scene.runs()) == 1
        await books.balance()


async def test_a_tap_on_an_old_card_that_moved_down_is_told_where_the_live_one_is():
    async with an_incident(expires="4s") as (scene, books):
        rudo = scene.phone("rudo")
        old = rudo.sees("Approve")
        await rudo.expects("Nothing was run", ASK_S)
        assert (await rudo.taps("Ask again")).text.startswith("Asked again")
        await books.shows("Validated", count=2)
        answer = await old.again()
        assert "older request" in answer.text or answer.text.startswith("Too late")
        await scene.ran_nothing()
        assert "Authorized" not in await books.count()
        assert GROUP in {h.chat_id for h in scene.stage.world.telegram.chats.journal}
