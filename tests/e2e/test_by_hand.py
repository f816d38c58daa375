"""By hand, through the whole program: propose, be told no, let somebody else tap, and see it done once."""

import pytest

from bot.sandbox.deploys import Dispatched
from tests.stages import CARD_S, END_S, a_scene, the_books, until

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("by-hand")]


async def test_a_roll_back_by_hand_is_dispatched_at_github_once_and_a_dyno_restarted_at_heroku():
    async with a_scene(vendors=True, cooldown="1s") as scene, the_books(scene) as books:
        rudo, tendai, deploys = scene.phone("rudo"), scene.phone("tendai"), scene.stage.world.deploys
        await rudo.sends("/run checkout roll_back steps=9")
        await rudo.expects("a whole number from 1 to 3")
        await rudo.sends("/run checkout roll_back steps=2")
        card = await tendai.expects_button("Approve", CARD_S)
        card.says("asked for by hand", "Proposed by Rudo", "with steps=2", "acme/checkout/actions/workflows")
        assert deploys.dispatched == []
        assert "somebody else must approve" in (await rudo.taps("Approve")).text
        assert (await tendai.taps("Approve")).text.startswith("Approved")
        await until(lambda: deploys.dispatched, "GitHub was asked", END_S)
        assert deploys.dispatched == [Dispatched("rollback.yml", "main", {"steps": "2"})]
        await books.shows("Executed", END_S)
        await rudo.forgets().sends("/resolve checkout-1")
        await rudo.expects("Closed by you", END_S)
        deploys.down = 500
        await tendai.sends("/run checkout bounce")
        await rudo.expects_button("Approve", CARD_S)
        assert (await rudo.taps("Approve")).text.startswith("Approved")
        failed = await books.shows("WebhookFailed", END_S)
        deploys.down = 0
        await tendai.forgets().sends("/dlq")
        await tendai.expects(f"#{failed.seq}")
        await tendai.sends(f"/dlq replay {failed.seq}")
        await rudo.forgets().expects_button("Approve", CARD_S)
        assert (await rudo.taps("Approve")).text.startswith("Approved")
        await until(lambda: deploys.restarted, "Heroku was asked", END_S)
        assert deploys.restarted == ["web.1"]
