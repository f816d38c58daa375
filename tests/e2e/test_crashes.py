"""kill -9 between any two steps of an execution: nothing is lost, nothing runs twice, and people are told."""

import pytest

from tests.stages import END_S, Twin, all_stored, an_incident, frozen, hooked, tap, until

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("crashes")]

TAKEN_OVER_S = 35.0


async def ran_once_and_rudo_knows(scene, books, *, restarts=1):
    """One outcome, one key, one run behind the endpoint, and the card says how it ended."""
    executed = await books.shows("Executed", TAKEN_OVER_S)
    await scene.phone("rudo").expects("ran once", END_S)
    count = await books.balance()
    assert (count["Authorized"], count["Executed"]) == (1, 1)
    hooks = await scene.runs()
    assert {hook["key"] for hook in hooks} == {executed.ref["hash"]}
    assert scene.stage.world.shop.last["restarts"] == restarts
    return hooks


async def test_a_tap_that_was_stored_and_not_yet_decided_counts_after_kill_9():
    async with an_incident() as (scene, books):
        telegram = scene.stage.world.telegram
        telegram.hang("answerCallbackQuery")
        tap(scene, "rudo", "I am on it")
        await books.shows("Acknowledged")
        tap(scene, "rudo", "Approve")
        await all_stored(scene)
        assert "Authorized" not in await books.count()
        await scene.stage.kill()
        telegram.unhang()
        await scene.stage.start()
        await books.shows("Authorized", TAKEN_OVER_S)
        hooks = await ran_once_and_rudo_knows(scene, books)
        assert len(hooks) == 1
        assert (await books.count())["Acknowledged"] == 1


async def test_an_authorization_that_nobody_began_to_execute_is_executed_by_the_next_process():
    async with an_incident() as (scene, books), Twin(scene.stage) as twin:
        await scene.stage.kill()
        answer = await scene.phone("rudo").taps("Approve")
        assert answer.text.startswith("Approved")
        count = await books.count()
        assert (count["Authorized"], count["ExecutionStarted"]) == (1, 0)
        await twin.kill()
        await scene.ran_nothing()
        await scene.stage.start()
        hooks = await ran_once_and_rudo_knows(scene, books)
        assert len(hooks) == 1


async def test_a_webhook_under_way_at_kill_9_is_asked_again_with_the_same_key():
    async with an_incident() as (scene, books):
        shop = scene.stage.world.shop
        await shop.faults(mood="hang")
        await scene.phone("rudo").taps("Approve")
        await hooked(scene)
        count = await books.count()
        assert (count["ExecutionStarted"], count["Executed"]) == (1, 0)
        await scene.stage.kill()
        await shop.faults(mood="")
        await scene.stage.start()
        hooks = await ran_once_and_rudo_knows(scene, books)
        assert [hook["status"] for hook in hooks] == [0, 200]


async def test_an_answer_that_was_not_written_down_before_kill_9_does_not_run_it_twice():
    async with an_incident() as (scene, books):
        await scene.phone("rudo").taps("Approve")
        await hooked(scene)
        with frozen(await books.server()):
            await hooked(scene, status=200)
            await scene.stage.kill()
        await scene.stage.start()
        assert "Executed" not in await books.count()
        hooks = await ran_once_and_rudo_knows(scene, books)
        assert [hook["status"] for hook in hooks] == [200, 200]


async def test_what_is_not_idempotent_is_not_asked_again_and_a_person_is_asked_what_happened():
    async with an_incident(idempotent=False) as (scene, books):
        shop = scene.stage.world.shop
        await shop.faults(mood="hang")
        await scene.phone("rudo").taps("Approve")
        await hooked(scene)
        await scene.stage.kill()
        await shop.faults(mood="")
        await scene.stage.start()
        await books.shows("OutcomeUnknown", TAKEN_OVER_S)
        card = await scene.phone("rudo").expects("/outcome", END_S)
        card.says("checkout")
        assert len(await scene.runs()) == 1
        count = await books.balance()
        assert (count["Authorized"], count["OutcomeUnknown"]) == (1, 1)


async def test_an_outcome_that_nobody_was_told_of_before_kill_9_is_told_afterwards():
    async with an_incident() as (scene, books):
        telegram = scene.stage.world.telegram
        await scene.phone("rudo").taps("Approve")
        for method in ("sendMessage", "editMessageText"):
            telegram.hang(method)
        await books.shows("Executed")
        await scene.stage.kill()
        telegram.unhang()
        await scene.stage.start()
        hooks = await ran_once_and_rudo_knows(scene, books)
        assert len(hooks) == 1


async def test_a_restart_in_the_middle_of_an_incident_does_not_page_again():
    async with an_incident() as (scene, books):
        rudo = scene.stage.world.phone("rudo")
        await until(lambda: rudo.rings >= 2, "the group and Rudo's own chat rang")
        heard, told = rudo.rings, await books.count()
        await scene.stage.kill()
        await scene.stage.start()
        answer = await scene.phone("rudo").taps("I am on it")
        assert answer.text.startswith("You are on it")
        await books.shows("Acknowledged")
        assert rudo.rings == heard
        count = await books.count()
        assert (count["Detected"], count["Paged"]) == (told["Detected"], told["Paged"])
