"""What people say of a verdict, and what a rule in shadow would have said, through the whole program."""

import pytest

from tests.stages import CARD_S, END_S, QUICK, a_scene, an_incident, answered, the_books, until

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("feedback")]


async def test_a_tap_on_not_an_incident_closes_it_once_runs_nothing_and_counts_in_the_policy():
    async with an_incident() as (scene, books):
        rudo = scene.phone("rudo")
        press = rudo.sees("Not an incident")
        answered((await press.again()).text, "Closed as not an incident")
        closed = await books.shows("Resolved", END_S)
        assert closed.data["kind"] == "not_an_incident"
        assert "You said that already" in (await press.again()).text
        stranger = await scene.phone("stranger").presses(press.message, press.data)
        assert "I do not know you" in stranger.text
        await rudo.expects("it is not an incident", CARD_S)
        await rudo.forgets().sends("/policy")
        (await rudo.expects("Last 30 days")).says("1 opened: 1 not an incident.", "Precision 0 of 1.")
        await rudo.forgets().sends("/status week")
        await rudo.expects("Pages at night")
        count = await books.count()
        assert (count["Resolved"], count["Feedback"], count["Authorized"]) == (1, 0, 0)
        assert await scene.runs() == []


async def test_what_is_in_shadow_wakes_nobody_and_is_told_by_policy_also_after_a_restart():
    async with a_scene(policy=QUICK | {"shadow": ["*"]}) as scene, the_books(scene) as books:
        rudo = scene.phone("rudo")
        await scene.breaks("the database pool is exhausted", db=True)

        async def is_told() -> bool:
            await rudo.forgets().sends("/policy")
            return "it would have spoken" in (await rudo.expects("Last 30 days")).text

        await until(is_told, "the policy tells what would have been said", CARD_S)
        await scene.stage.kill()
        await scene.stage.start()
        await until(is_told, "it is told after a restart as well", CARD_S)
        assert (await books.count())["Detected"] == 0
