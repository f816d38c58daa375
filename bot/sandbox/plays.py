"""The plays: an incident each, in sentences. What a play expects happens, or it fails and says why."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from bot.sandbox.hostile import hostile_tenant
from bot.sandbox.neighbours import Neighbours
from bot.sandbox.phone import Unmet, WhatsAppPhone
from bot.sandbox.scene import ASK_S, CARD_S, END_S, NO_RUN, RUN_S
from bot.sandbox.scene import Scene as Scene
from bot.sandbox.scene import answered as answered
from bot.sandbox.stage import QUICK, Stage
from bot.sandbox.world import MODEL_A, MODEL_B


async def consensus(scene: Scene) -> None:
    """Both models agree, Rudo approves, it runs once, the shop recovers."""
    scene.stage.world.models.consensus("database")
    await scene.breaks("the database pool is exhausted", db=True)
    rudo = scene.phone("rudo")
    card = await rudo.expects_card("checkout", CARD_S)
    scene.tell("bot", card.text.splitlines()[0])
    card = await rudo.expects_button("Approve", ASK_S)
    card.says("Both models agree", "Restart checkout workers", NO_RUN).offers(
        "Deny", "I am on it", "Not an incident"
    )
    scene.tell("bot", card.text.splitlines()[0])
    await scene.ran_nothing()
    answered(await scene.taps("rudo", "Approve"), "Approved")
    end = await rudo.expects("checkout recovered", END_S)
    scene.tell("bot", end.text.splitlines()[0])
    await scene.ran_once("restart_workers")


async def dissent(scene: Scene) -> None:
    """The models disagree; Tendai trusts theory B, and only that runs."""
    scene.stage.world.models.dissent(MODEL_A, MODEL_B)
    await scene.breaks("the payments provider is slow and fails", payments=True)
    tendai = scene.phone("tendai")
    card = await tendai.expects_button("Trust theory B", CARD_S + ASK_S)
    card.says("Models disagree", "Theory A", "Theory B", NO_RUN).offers("Trust theory A", "Neither")
    card.does_not_say("Both models agree")
    scene.tell("bot", card.text.splitlines()[0])
    answered(await scene.taps("tendai", "Trust theory B"), "Approved")
    end = await tendai.expects("checkout recovered", END_S)
    scene.tell("bot", end.text.splitlines()[0])
    await scene.ran_once("switch_payments")


async def whatsapp(scene: Scene) -> None:
    """Everything in WhatsApp: told by template, approved by code, told how it ended."""
    scene.stage.world.models.consensus("database")
    await scene.breaks("the database pool is exhausted", db=True)
    rudo: WhatsAppPhone = scene.stage.world.whatsapp("rudo")
    opened = await rudo.expects("checkout", CARD_S)
    scene.tell("bot", opened.text)
    asked = await rudo.expects("Approval needed", ASK_S)
    asked.says("RUN", NO_RUN)
    scene.tell("bot", asked.text)
    await rudo.sends("yes")
    scene.tell("rudo", "sends yes")
    await asyncio.sleep(0)
    await rudo.expects("RUN", ASK_S)
    await scene.ran_nothing()
    await rudo.sends("RUN", asked)
    scene.tell("rudo", "swipes on the request and sends RUN")
    said = await rudo.expects("Approved", RUN_S)
    scene.tell("bot", said.text)
    end = await rudo.expects("recovered", END_S)
    scene.tell("bot", end.text)
    await scene.ran_once("restart_workers")


async def models_down(scene: Scene) -> None:
    """No model answers: policy alone names the charter's action, and everything else works the same."""
    scene.stage.world.models.down()
    await scene.breaks("the database pool is exhausted", db=True)
    rudo = scene.phone("rudo")
    first = await rudo.expects_card("checkout", CARD_S)
    scene.tell("bot", first.text.splitlines()[0])
    card = await rudo.expects_button("Approve", ASK_S)
    card.says("No model answered", "Restart checkout workers", NO_RUN)
    rudo.never_read("Both models agree")
    scene.tell("bot", card.text.splitlines()[1])
    answered(await scene.taps("rudo", "Approve"), "Approved")
    end = await rudo.expects("checkout recovered", END_S)
    scene.tell("bot", end.text.splitlines()[0])
    await scene.ran_once("restart_workers")


async def webhook_down(scene: Scene) -> None:
    """The recovery endpoint answers 500 three times: a dead letter, said aloud, and nothing pretends."""
    scene.stage.world.models.consensus("database")
    await scene.breaks("the recovery endpoint answers 500", mood="500")
    await scene.breaks("the database pool is exhausted", db=True)
    rudo = scene.phone("rudo")
    await rudo.expects_button("Approve", CARD_S + ASK_S)
    answered(await scene.taps("rudo", "Approve"), "Approved")
    card = await rudo.expects_card("500", END_S)
    card.offers("Ask again")
    scene.tell("bot", card.text.splitlines()[0])
    hooks = await scene.runs()
    if len(hooks) != 3 or len({hook["key"] for hook in hooks}) != 1:
        raise Unmet(f"three tries with one key were expected, but the endpoint saw {hooks}")
    scene.tell("shop", "saw three tries with one idempotency key")


async def double_tap(scene: Scene) -> None:
    """Two people tap at the same moment: one authorization, one run, and both are told."""
    scene.stage.world.models.consensus("database")
    await scene.breaks("the database pool is exhausted", db=True)
    rudo, tendai = scene.phone("rudo"), scene.phone("tendai")
    card = await rudo.expects_button("Approve", CARD_S + ASK_S)
    presses = rudo.sees("Approve", card), tendai.sees("Approve", await tendai.expects_button("Approve"))
    answers = await asyncio.gather(*(press.again() for press in presses))
    for who, answer in zip(("rudo", "tendai"), answers, strict=True):
        scene.tell(who, f"taps Approve and is told: {answer.text}")
    texts = sorted(answer.text for answer in answers)
    answered(texts[0], "Approved")
    answered(texts[1], "was first")
    await rudo.expects("checkout recovered", END_S)
    await scene.ran_once("restart_workers")
    entries = await scene.stage.entries()
    if sum(entry.event == "Authorized" for entry in entries) != 1:
        raise Unmet("there is not exactly one Authorized in the ledger")


async def stranger_taps(scene: Scene) -> None:
    """Somebody in the group who is in no charter taps Approve: told, on record, and nothing runs."""
    scene.stage.world.models.consensus("database")
    await scene.breaks("the database pool is exhausted", db=True)
    await scene.phone("rudo").expects_button("Approve", CARD_S + ASK_S)
    answered(await scene.taps("stranger", "Approve"), "do not know you", "on record")
    await scene.ran_nothing()
    entries = await scene.stage.entries()
    if not any(entry.event == "Refused" and entry.data.get("kind") == "stranger" for entry in entries):
        raise Unmet("the stranger's tap is not on record")
    answered(await scene.taps("rudo", "Approve"), "Approved")
    await scene.phone("rudo").expects("checkout recovered", END_S)
    await scene.ran_once("restart_workers")


async def expired_then_ask_again(scene: Scene) -> None:
    """Nobody answers in time: nothing runs. A tap on the old button asks again; the new one approves."""
    scene.stage.world.models.consensus("database")
    await scene.breaks("the database pool is exhausted", db=True)
    rudo = scene.phone("rudo")
    card = await rudo.expects_button("Approve", CARD_S + ASK_S)
    old = rudo.sees("Approve", card)
    late = await rudo.expects("Nothing was run", ASK_S)
    scene.tell("bot", late.text.splitlines()[0])
    late.offers("Ask again")
    await scene.ran_nothing()
    rudo.forgets()
    answer = await old.again()
    scene.tell("rudo", f"taps the old Approve and is told: {answer.text}")
    answered(answer.text, "Too late", "nothing was run")
    await scene.ran_nothing()
    answered(await scene.taps("rudo", "Approve"), "Approved")
    await rudo.expects("checkout recovered", END_S)
    await scene.ran_once("restart_workers")


async def app_dies(scene: Scene) -> None:
    """The shop's process ends: unreachable within seconds, restarted from outside after a tap."""
    scene.stage.world.models.consensus("capacity")
    scene.tell("shop", "its process ends")
    await scene.stage.world.shop.die()
    rudo = scene.phone("rudo")
    card = await rudo.expects_card("checkout", CARD_S)
    scene.tell("bot", card.text.splitlines()[0])
    await rudo.expects_button("Approve", ASK_S)
    await scene.ran_nothing()
    answered(await scene.taps("rudo", "Approve"), "Approved")
    end = await rudo.expects("checkout recovered", END_S)
    scene.tell("bot", end.text.splitlines()[0])
    await scene.ran_once("restart_workers")


@dataclass(frozen=True, slots=True)
class Play:
    """What happens, on which stage, under which charter and settings, and how many seconds it has."""

    run: Callable[[Scene], Awaitable[None]]
    charter: Mapping[str, Any] = field(default_factory=lambda: {"policy": QUICK})
    settings: Mapping[str, str] = field(default_factory=lambda: {"LOOP_INTERVAL_S": "1"})
    stage: type[Stage] = Stage
    seconds: float = 58.0


PLAYS: Mapping[str, Play] = {
    "consensus": Play(consensus),
    "dissent": Play(dissent),
    "whatsapp": Play(whatsapp, {"policy": QUICK, "telegram": {"rudo": 1001}, "chats": ()}),
    "models-down": Play(models_down),
    "webhook-down": Play(webhook_down),
    "double-tap": Play(double_tap),
    "stranger-taps": Play(stranger_taps),
    "expired-then-ask-again": Play(expired_then_ask_again, {"policy": QUICK, "expires": "4s"}),
    "app-dies": Play(app_dies),
    "hostile-tenant": Play(
        hostile_tenant, {"policy": QUICK, "approve": "2 oncall"}, stage=Neighbours, seconds=150.0
    ),
}
