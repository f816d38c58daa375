"""In maintenance a service wakes nobody; its verdicts stand, and what is left of them is told afterwards."""

from bot.ports import Address
from ledger import events as ev
from ledger.view import epoch_ms
from tests.unit.bot.stories import POLICY, RUDO, SICK, WELL
from tests.unit.bot.test_notify import GROUP, NAME, PHONE, PRIVATE, House

OTHER = Address("telegram", "1002", "tendai", "tendai")


async def left_alone(minutes: int = 30) -> House:
    house = House()
    await house.adopt()
    until_ms = epoch_ms(house.clock.now()) + minutes * 60_000
    await house.say(RUDO, ev.MaintenanceDeclared(service="checkout", until_ms=until_ms))
    return house


async def test_what_opens_in_maintenance_is_recorded_and_told_to_nobody_until_it_is_over():
    house = await left_alone()
    await house.say(POLICY, ev.Detected(incident_id=NAME, reading=SICK))
    await house.settle()
    assert house.wire.messages == {}
    assert house.incident.is_open
    house.clock.advance(30 * 60)
    await house.settle()
    assert len(house.wire.of(GROUP)) == 1


async def test_what_is_over_again_before_it_ends_wakes_nobody_at_all():
    house = await left_alone(5)
    await house.say(POLICY, ev.Detected(incident_id=NAME, reading=SICK))
    await house.say(POLICY, ev.Recovered(incident_id=NAME, after=WELL), 60)
    await house.settle()
    assert house.wire.messages == {}


async def test_what_a_person_declares_is_told_at_once():
    house = await left_alone()
    await house.say(RUDO, ev.Detected(incident_id=NAME, reading=SICK, origin="declared"))
    await house.settle()
    assert len(house.wire.of(GROUP)) == 1


async def test_another_service_is_not_left_alone():
    house = House()
    await house.adopt()
    until_ms = epoch_ms(house.clock.now()) + 60_000
    await house.say(RUDO, ev.MaintenanceDeclared(service="basket", until_ms=until_ms))
    await house.say(POLICY, ev.Detected(incident_id=NAME, reading=SICK))
    await house.settle()
    assert len(house.wire.of(GROUP)) == 1


async def test_who_was_paged_keeps_a_true_card_when_the_rota_goes_on():
    house = House(GROUP, PRIVATE)
    house.reach = {"rudo": [PRIVATE], "tendai": [OTHER]}
    await house.detected()
    await house.settle()
    house.addresses = [GROUP, OTHER]
    await house.say(POLICY, ev.Recovered(incident_id=NAME, after=WELL), 60)
    await house.settle()
    assert "recovered" in house.wire.of(PRIVATE)[-1].card.plain
    assert "recovered" in house.wire.of(OTHER)[-1].card.plain


async def test_a_step_wakes_on_its_channels_alone():
    house = House()
    house.reach = {"tendai": [OTHER, PHONE]}
    await house.detected()
    await house.validated()
    await house.say(POLICY, ev.Escalated(incident_id=NAME, to=("tendai",), channels=("whatsapp",), step=1))
    await house.settle()
    assert house.wire.of(PHONE)
    assert not house.wire.of(OTHER)
    await house.say(POLICY, ev.Escalated(incident_id=NAME, to=("tendai",), step=2))
    await house.settle()
    assert house.wire.of(OTHER)


async def test_work_that_was_due_before_the_maintenance_began_sends_nothing_in_it():
    house = House()
    await house.detected()
    [work] = house.due()
    until_ms = epoch_ms(house.clock.now()) + 60_000
    await house.say(RUDO, ev.MaintenanceDeclared(service="checkout", until_ms=until_ms), 0)
    await house.notify.do(work)
    assert house.wire.messages == {}


async def test_a_step_for_one_channel_rings_on_no_other_that_has_the_card_already():
    house = House(GROUP, PRIVATE)
    house.reach = {"rudo": [PRIVATE]}
    await house.detected()
    await house.settle()
    for channels, messages in (("whatsapp",), 1), (("telegram",), 2):
        await house.say(POLICY, ev.Escalated(incident_id=NAME, to=("rudo",), channels=channels, step=1))
        await house.settle()
        assert len(house.wire.of(PRIVATE)) == messages
