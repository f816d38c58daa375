"""Alone at night, through the whole program: a second factor, a broken glass, and who signs it off."""

import base64
import re
import time

import pytest

from bot.totp import STEP_MS, code
from tests.stages import CARD_S, END_S, a_scene, breaks, the_books

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("glass")]

WHY = "payments are down and nobody answers"


async def test_one_admin_breaks_the_glass_with_a_code_it_runs_once_and_a_second_person_signs_it_off():
    rules = {"approve": "2 oncall", "risk": "high", "totp": True, "break_glass": "1 admin"}
    async with a_scene(**rules) as scene, the_books(scene) as books:
        rudo, tendai = scene.phone("rudo").in_private, scene.phone("tendai").in_private
        await rudo.sends("/totp")
        shown = await rudo.expects("otpauth://totp/")
        secret = base64.b32decode(re.search(r"secret=([A-Z2-7]{32})", shown.text)[1])
        await breaks(scene)
        await tendai.sends(f"/breakglass checkout-1 restart_workers {WHY}")
        await tendai.expects("may not break the glass")
        await rudo.sends(f"/breakglass checkout-1 restart_workers {WHY}")
        (await rudo.expects("Answer BREAK GLASS")).says("recover/restart_workers", "High risk")
        await rudo.sends("BREAK GLASS")
        await rudo.expects("six digits")
        assert (await books.count())["Authorized"] == 0
        await rudo.sends(code(secret, time.time_ns() // 1_000_000 // STEP_MS))
        await rudo.expects("Approved")
        await books.shows("Executed", END_S)
        (await tendai.expects("Rudo broke the glass on checkout-1", CARD_S)).says(WHY)
        await rudo.sends("/review checkout-1")
        await rudo.expects("You broke this glass yourself")
        await tendai.sends("/review checkout-1")
        await tendai.expects("signed off by you")
        await books.shows("Reviewed", END_S)
        [made] = [entry.data for entry in await books.entries() if entry.event == "Authorized"]
        assert (made["break_glass"], made["stepped_up"], made["voters"]) == (True, True, ["rudo"])
        assert WHY.encode() not in b"".join(entry.line for entry in await books.entries())
        assert len([hook for hook in await scene.stage.world.shop.hooks() if hook["status"] == 200]) == 1
