"""What is asked of a person, when, and what holds it back. Models advise; the charter offers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handlers import offers
from handlers.charter import parse
from handlers.council import judge
from handlers.ports import NoOpinion, Outcome
from ledger import events as ev
from ledger.events import Cause
from ledger.machine import Fact, Incident, Stage
from ledger.view import epoch_ms
from tests.council_room import (
    CHARTER,
    POLICY,
    POOL,
    RUDO,
    SUSPECTS,
    TIMEOUTS,
    Room,
    Scripted,
    opinion,
    reading,
    said,
)

DOWN = NoOpinion(Outcome.OVERLOADED)


def council(first=None, second=None) -> dict[str, Scripted]:
    return {"A": Scripted("haiku", first), "B": Scripted("sonnet", second)}


async def asked(first=None, second=None, charter: str = CHARTER, **opened) -> Room:
    """A room in which these two have spoken and the loop has done what was due."""
    room = Room(council(first, second), charter)
    await room.open(**opened)
    await room.run()
    return room


def actions(room: Room) -> list[tuple[str, str, str]]:
    return [(one.key, one.theory, one.action) for one in room.request.options]


# --- when ----------------------------------------------------------------------------------------------


async def test_a_request_is_made_as_soon_as_both_lenses_stand():
    room = await asked(opinion(), opinion())
    assert room.stage is Stage.VALIDATED
    assert room.incident.opened_ms == room.now_ms


async def test_failures_stand_too_and_nobody_waits_for_what_will_not_come():
    room = await asked(DOWN, DOWN)
    assert room.stage is Stage.VALIDATED


async def test_a_hanging_model_holds_the_request_back_for_twelve_seconds_and_no_longer():
    room = await asked(opinion(), None)
    assert room.stage is Stage.DETECTED
    await room.run(11.999)
    assert room.stage is Stage.DETECTED
    await room.run(0.001)
    assert room.stage is Stage.VALIDATED
    assert room.request.verdict == "SINGLE"


async def test_without_models_a_request_is_made_at_once():
    room = Room()
    await room.open()
    await room.run()
    assert room.stage is Stage.VALIDATED
    assert room.request.reason == "No model was asked: this is policy alone"


async def test_a_service_that_the_charter_does_not_name_waits_for_nobody_and_gets_no_action():
    room = Room(council())
    await room.open(service="basket")
    await room.run()
    assert room.withheld.reason == "no action in the charter"


async def test_asking_again_renews_at_once_with_the_newest_opinions_and_asks_no_model():
    room = await asked(opinion(), opinion())
    await room.run(300)
    assert room.stage is Stage.EXPIRED
    await room.ask_again()
    await room.run(1)
    assert room.stage is Stage.VALIDATED
    assert room.request.verdict == "AGREE"
    assert room.request.deadline_ms == room.now_ms + 300_000
    assert [len(model.asked) for model in room.models.values()] == [1, 1]


async def test_asking_again_does_not_wait_for_a_round_that_is_still_being_asked():
    room = await asked(opinion(), opinion(), severity="warning")
    await room.run(300)
    for model in room.models.values():
        model._says = None
    await room.write(POLICY, ev.Worsened(incident_id="checkout-1", reading=reading(), suspects=SUSPECTS))
    await room.run()
    await room.ask_again()
    await room.run(1)
    assert room.request.verdict == "AGREE"
    await room.close()


async def test_a_request_is_made_after_twelve_seconds_even_if_nobody_asks_the_models():
    room = Room(council())
    room.loop._reconcilers = tuple(one for one in room.loop._reconcilers if one.name != "diagnose")
    await room.open()
    await room.run(11.999)
    assert room.stage is Stage.DETECTED
    await room.run(0.001)
    assert room.stage is Stage.VALIDATED


async def test_after_reopening_the_council_is_heard_anew_before_the_request():
    room = await asked(opinion(), opinion())
    await room.write(POLICY, ev.Recovered(incident_id="checkout-1", after=reading()))
    room.models["B"]._says = None
    await room.run(60)
    await room.write(POLICY, ev.Reopened(incident_id="checkout-1", reading=reading(), suspects=SUSPECTS))
    await room.run()
    assert room.stage is Stage.DETECTED
    await room.run(12)
    assert room.request.verdict == "SINGLE"


async def test_nothing_is_proposed_while_it_is_withheld_until_a_person_asks():
    room = Room()
    await room.open()
    await room.write(RUDO, ev.Paused())
    await room.run()
    assert room.stage is Stage.WITHHELD
    await room.write(RUDO, ev.Resumed())
    await room.run(3600)
    assert room.stage is Stage.WITHHELD
    await room.ask_again()
    await room.run(1)
    assert room.stage is Stage.VALIDATED


async def test_two_processes_propose_once():
    room = Room()
    await room.open()
    other = Room()
    other.ledger._store = room.ledger._store
    await other.ledger.catch_up()
    await other.run()
    room.loop.step()
    await room.loop.settle()
    assert len(room.incident.every(ev.Proposed)) == 1
    assert room.stage is Stage.VALIDATED


# --- what ----------------------------------------------------------------------------------------------


async def test_agreement_offers_the_charters_action_for_the_cause_and_binds_it():
    room = await asked(opinion(percent=90), opinion(percent=84))
    (one,) = room.request.options
    action = room.charter.action("checkout", "restart_workers")
    assert (one.key, one.theory, one.cause, one.component) == ("1", "AB", Cause.DATABASE, "db_pool")
    assert (one.confidence, room.request.confidence, room.request.verdict) == (87, 87, "AGREE")
    assert one.request == "POST 127.0.0.1:9000/recover/restart_workers"
    assert one.digest == action.digest("checkout")
    assert (one.impact, one.undo) == (
        "about 8 s of refused requests",
        "none: a restart has nothing to undo",
    )
    assert room.request.reason == "Both models agree: database, db_pool"
    assert room.request.charter_digest == room.charter.digest()


async def test_dissent_offers_both_theories_each_with_its_own_action():
    room = await asked(opinion(percent=82), opinion(Cause.NETWORK, 76))
    assert actions(room) == [("A", "A", "restart_workers"), ("B", "B", "use_fallback")]
    assert [one.confidence for one in room.request.options] == [82, 76]
    assert room.request.confidence is None
    assert room.request.deadline_ms == room.now_ms + 180_000, "the shorter life of the two"


async def test_a_theory_without_an_action_can_be_trusted_and_runs_nothing():
    room = await asked(opinion(percent=82), opinion(Cause.TRAFFIC, 76))
    assert actions(room) == [("A", "A", "restart_workers"), ("B", "B", "")]
    assert room.request.deadline_ms == room.now_ms + 300_000


async def test_two_theories_with_the_same_action_keep_their_two_options():
    room = await asked(opinion(percent=82), opinion(Cause.CAPACITY, 76))
    assert actions(room) == [("A", "A", "restart_workers"), ("B", "B", "restart_workers")]


async def test_a_single_opinion_is_offered_as_one_that_nobody_checked():
    room = await asked(DOWN, opinion(Cause.DEPENDENCY, 76))
    assert actions(room) == [("1", "B", "use_fallback")]
    assert room.request.reason == "Only one model names a cause, so nobody checked it: dependency, db_pool"


@pytest.mark.parametrize(
    ("first", "second", "reason"),
    [
        (DOWN, DOWN, "No model answered: this is policy alone"),
        (
            opinion(percent=50),
            opinion(Cause.NETWORK, 50),
            "No model is sure of a cause: this is policy alone",
        ),
        (
            opinion(Cause.NETWORK, 50),
            opinion(Cause.NETWORK, 50),
            "No confident diagnosis: this is policy alone",
        ),
        (DOWN, opinion(Cause.NETWORK, 59), "No confident diagnosis: this is policy alone"),
    ],
)
async def test_without_a_confident_theory_policys_default_is_offered(first, second, reason):
    room = await asked(first, second)
    assert actions(room) == [("1", "", "restart_workers")]
    assert (room.request.options[0].confidence, room.request.verdict) == (None, "NONE")
    assert room.request.reason == reason


async def test_a_service_without_actions_is_withheld_and_says_so():
    bare = CHARTER[: CHARTER.index("[[services.actions]]")]
    room = await asked(opinion(), opinion(), charter=bare)
    assert room.withheld.reason == "no action in the charter"
    assert [one.why for one in room.withheld.held] == ["no action in the charter"]


async def test_a_cause_without_an_action_is_not_answered_with_another_ones():
    room = await asked(opinion(Cause.TRAFFIC), opinion(Cause.TRAFFIC))
    assert room.withheld.reason == "no action in the charter for traffic"


async def test_without_a_default_action_and_without_models_nothing_is_offered():
    room = await asked(DOWN, DOWN, charter=CHARTER.replace("default = true\n", ""))
    assert room.withheld.reason == "no action in the charter"


# --- after it did not help -----------------------------------------------------------------------------


async def test_the_next_theory_follows_when_the_first_did_not_help():
    room = await asked(opinion(percent=82), opinion(Cause.NETWORK, 76))
    await room.approve("A")
    await room.does_not_help()
    await room.run(90)
    assert actions(room) == [("1", "B", "use_fallback")]
    assert room.request.reason == "Restart checkout workers did not help. Next theory: network"


async def test_the_undo_follows_when_there_is_no_other_theory():
    room = await asked(opinion(Cause.NETWORK), opinion(Cause.NETWORK))
    assert room.request.options[0].undo == "Switch back to payments"
    await room.approve()
    await room.does_not_help()
    await room.run(90)
    assert actions(room) == [("1", "", "use_primary")]


async def test_a_deploy_among_the_suspects_is_the_next_suspect():
    room = await asked(opinion(), opinion())
    await room.approve()
    await room.does_not_help()
    await room.run(90)
    assert actions(room) == [("1", "", "roll_back")]
    assert room.request.reason == "Restart checkout workers did not help. Next: Roll checkout back"


async def test_what_did_not_help_is_not_offered_again_when_a_person_asks_again():
    room = await asked(opinion(), opinion())
    await room.approve()
    await room.does_not_help()
    await room.run(90)
    await room.run(300)
    assert room.stage is Stage.EXPIRED
    await room.ask_again()
    await room.run(1)
    assert actions(room) == [("1", "", "roll_back")]


async def test_the_same_action_comes_again_only_where_there_is_no_other_and_after_its_cooldown():
    alone = CHARTER[: CHARTER.index('[[services.actions]]\nid = "use_fallback"')]
    room = await asked(opinion(), opinion(), charter=alone, suspects=(POOL, TIMEOUTS))
    await room.approve()
    ran_ms = room.now_ms
    await room.does_not_help()
    await room.run(90)
    assert [one.why for one in room.withheld.held] == ["it ran less than 10 min ago"]
    assert room.withheld.until_ms == ran_ms + 600_000
    await room.run(600)
    await room.ask_again()
    await room.run(1)
    assert actions(room) == [("1", "", "restart_workers")]


async def test_after_reopening_what_did_not_help_before_may_be_offered_again():
    room = await asked(opinion(), opinion())
    await room.approve()
    await room.does_not_help()
    await room.run(90)
    await room.write(POLICY, ev.Recovered(incident_id="checkout-1", after=reading()))
    await room.run(600)
    await room.write(POLICY, ev.Reopened(incident_id="checkout-1", reading=reading(), suspects=SUSPECTS))
    await room.run(1)
    assert actions(room) == [("1", "AB", "restart_workers")]


# --- gates ---------------------------------------------------------------------------------------------


async def proposed(charter: str = CHARTER, *facts: ev.Event, down: bool = False) -> Room:
    """A room where policy alone proposes a restart, after these tenant facts."""
    room = Room(charter=charter)
    await room.open()
    for fact in facts:
        await room.write(RUDO, fact)
    if down:
        room.watch.down.add("checkout")
    await room.run()
    return room


async def test_pause_holds_everything():
    until_ms = epoch_ms(Room().clock.now()) + 60_000
    room = await proposed(CHARTER, ev.Paused(until_ms=until_ms))
    assert room.withheld.reason == "Restart checkout workers: everything is paused"
    assert room.withheld.until_ms == until_ms


async def test_a_pause_that_has_passed_holds_nothing():
    room = await proposed(CHARTER, ev.Paused(until_ms=epoch_ms(Room().clock.now())))
    assert room.stage is Stage.VALIDATED


async def test_maintenance_holds_its_service():
    until_ms = epoch_ms(Room().clock.now()) + 60_000
    room = await proposed(CHARTER, ev.MaintenanceDeclared(service="checkout", until_ms=until_ms))
    assert room.withheld.reason == "Restart checkout workers: checkout is in maintenance"
    other = await proposed(CHARTER, ev.MaintenanceDeclared(service="basket", until_ms=until_ms))
    assert other.stage is Stage.VALIDATED


async def test_a_dead_app_is_not_asked_to_restart_itself():
    room = await proposed(down=True)
    assert room.withheld.held[0].why == "checkout does not answer, and this would run inside it"


async def test_what_runs_outside_may_restart_a_dead_app():
    outside = CHARTER.replace("default = true\n", "default = true\noutside = true\n")
    assert (await proposed(outside, down=True)).stage is Stage.VALIDATED
    elsewhere = CHARTER.replace("http://127.0.0.1:9000/recover", "http://127.0.0.1:9001/recover")
    assert (await proposed(elsewhere, down=True)).stage is Stage.VALIDATED


async def test_the_default_port_does_not_hide_that_two_addresses_are_one_origin():
    same = CHARTER.replace("http://127.0.0.1:9000/recover", "http://shop.example:80/recover")
    same = same.replace("http://127.0.0.1:9000/health", "http://SHOP.example/health")
    assert (await proposed(same, down=True)).stage is Stage.WITHHELD


async def test_an_empty_approver_list_means_that_nobody_may_approve():
    room = await proposed(CHARTER.replace('approve = "1 oncall"\nimpact', 'approve = ""\nimpact'))
    assert room.withheld.held[0].why == "nobody may approve it"


async def test_an_approver_role_that_nobody_has_means_that_nobody_may_approve():
    room = await proposed(CHARTER.replace('approve = "1 oncall"\nimpact', 'approve = "1 sre"\nimpact'))
    assert room.withheld.held[0].why == "nobody may approve it"


async def test_a_quorum_that_the_people_cannot_fill_is_said_before_anybody_waits_for_it():
    room = await proposed(CHARTER.replace('approve = "1 oncall"\nimpact', 'approve = "3 oncall"\nimpact'))
    assert room.withheld.held[0].why == "it needs 3 oncall, and the charter names fewer people"


async def test_one_option_in_its_cooldown_leaves_the_other():
    room = await asked(opinion(percent=82), opinion(Cause.NETWORK, 76))
    await room.approve("A")
    await room.write(POLICY, ev.Inconclusive(incident_id="checkout-1", before=reading(), after=reading()))
    await room.ask_again()
    await room.run(60)
    assert actions(room) == [("B", "B", "use_fallback")]
    assert [(one.action, one.why) for one in room.request.held] == [
        ("restart_workers", "it ran less than 10 min ago")
    ]


async def test_when_only_running_nothing_is_left_there_is_nothing_to_ask():
    room = await asked(opinion(percent=82), opinion(Cause.TRAFFIC, 76))
    await room.approve("A")
    await room.write(POLICY, ev.Inconclusive(incident_id="checkout-1", before=reading(), after=reading()))
    await room.ask_again()
    await room.run(60)
    assert room.withheld.reason == "Restart checkout workers: it ran less than 10 min ago"


async def test_a_cooldown_of_one_incident_holds_in_the_next():
    room = await asked(opinion(), opinion())
    await room.approve()
    await room.write(POLICY, ev.Verified(incident_id="checkout-1", before=reading(), after=reading()))
    await room.write(POLICY, ev.Detected(incident_id="checkout-2", reading=reading(), suspects=(POOL,)))
    await room.run(60)
    assert room.ledger.view.incidents["checkout-2"].stage is Stage.WITHHELD


async def test_what_a_person_proposed_by_hand_passes_the_same_gates():
    room = Room(council())
    await room.open()
    await room.write(RUDO, ev.Paused())
    action = room.charter.action("checkout", "roll_back")
    option = offers.option("1", action, room.charter.services[0])
    await room.write(RUDO, ev.Proposed(incident_id="checkout-1", options=(option,)))
    await room.run()
    assert room.withheld.held[0].why == "everything is paused"
    await room.close()


async def test_an_action_that_changed_since_it_was_proposed_is_not_asked_for():
    room = Room(council())
    await room.open()
    action = room.charter.action("checkout", "roll_back")
    option = offers.option("1", action, room.charter.services[0]).model_copy(update={"digest": "0" * 64})
    await room.write(RUDO, ev.Proposed(incident_id="checkout-1", options=(option,)))
    await room.run()
    assert room.withheld.held[0].why == "the charter changed and no longer names exactly this"
    await room.close()


# --- promise 2 -----------------------------------------------------------------------------------------

answers = st.builds(
    said,
    lens=st.just("A"),
    cause=st.sampled_from(Cause),
    percent=st.integers(0, 100),
    component=st.sampled_from(["db_pool", "", "restart_workers", "http://evil.example"]),
    outcome=st.sampled_from(Outcome).map(str),
)


@given(answers, answers)
def test_whatever_models_say_only_the_charters_own_actions_are_offered_for_their_causes(first, second):
    service = parse(CHARTER).services[0]
    facts = (
        ev.Detected(incident_id="checkout-1", reading=reading(), suspects=SUSPECTS),
        first,
        second.model_copy(update={"lens": "B"}),
    )
    incident = Incident(
        "checkout-1",
        Stage.DETECTED,
        0,
        tuple(Fact(n, f"{n:064x}", n, POLICY, event) for n, event in enumerate(facts)),
    )
    for one in offers.offer(incident, judge(incident.diagnoses()), service).options:
        if one.action:
            action = service.action(one.action)
            assert one.digest == action.digest("checkout")
            assert one.request == action.request
            assert one.cause in action.causes if one.theory else action.default
