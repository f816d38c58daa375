"""The law of merging, over the whole way that a push takes: however requests are spread over workers, and
whatever becomes of their pushes on the way, what is told at the end is what one worker would have told."""

import random
from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from handlers.adapters.health import tick_of
from sdk.parcel import pack, unpack
from sdk.together import STALE_S, Together, dated
from sdk.wire import Snapshot
from tests.shelves import MemoryShelf
from tests.unit.sdk.test_together import SECOND_NS, Clocks, count, exact, sums, word_of

request = st.tuples(
    st.integers(0, 7),
    st.sampled_from(["GET /a", "POST /b", "GET /c/{id}"]),
    st.integers(32, 2**36),
    st.sampled_from(["", "", "", "TimeoutError", "OSError"]),
    st.integers(0, 3),
)
shift = st.integers(-7200, 7200) | st.integers(-40, 40) | st.integers(-6, 6)
fate = st.sampled_from(["arrives", "arrives", "is lost", "answer is lost", "late", "twice"])


class Sender:
    """A worker that pushes as sdk/push.py does: what was not acknowledged goes again, under a new number."""

    def __init__(self, name, window, clocks):
        self.name, self.window, self._clocks = name, window, clocks
        self.number, self.arrived = 0, set()

    def push(self, fate, shelf, on_the_way):
        word = word_of(self.window, self._clocks)
        self.arrived &= word.seconds.keys()
        seconds = {t: one for t, one in word.seconds.items() if t not in self.arrived}
        self.number += 1
        raw = pack(self.name, self.number, word, seconds)
        if fate in {"arrives", "twice", "answer is lost"}:
            shelf.keep(unpack(raw))
        if fate in {"late", "twice"}:
            on_the_way.append(raw)
        if fate in {"arrives", "twice"}:
            self.arrived |= seconds.keys()


@settings(deadline=None)
@given(st.integers(1, 8), st.lists(request, max_size=40), st.integers(0, 7), st.randoms(), st.data())
def test_any_partition_over_workers_and_any_fate_of_their_pushes_is_one_worker_bit_for_bit(
    size, requests, victim, shuffled, data
):
    clocks = Clocks()
    one = clocks.window()
    senders = [Sender(f"w{n}", clocks.window(), clocks) for n in range(size)]
    shelf, on_the_way, polled = MemoryShelf(), [], Together()
    dies_after = data.draw(st.integers(0, len(requests)))
    living = list(senders)
    for i, (who, route, ns, exception, wait) in enumerate(requests):
        if i == dies_after and size > 1 and victim < size:
            clocks.forward(SECOND_NS)
            senders[victim].push("arrives", shelf, on_the_way)
            living.remove(senders[victim])
        count(one, clocks, route, ns, exception)
        count(living[who % len(living)].window, clocks, route, ns, exception)
        clocks.forward(wait * SECOND_NS)
        for sender in data.draw(st.lists(st.sampled_from(living), max_size=3)):
            sender.push(data.draw(fate), shelf, on_the_way)
        if data.draw(st.booleans()) and on_the_way:
            shelf.keep(unpack(on_the_way.pop(shuffled.randrange(len(on_the_way)))))
    clocks.forward(SECOND_NS * (STALE_S + 2))
    for sender in living:
        sender.push("arrives", shelf, on_the_way)
    shuffled.shuffle(on_the_way)
    for raw in on_the_way * 2:
        shelf.keep(unpack(raw))
    for _ in range(2):
        polled.hear(shelf.words(), clocks.wall // SECOND_NS)
    kept = one.closed()
    assert exact(polled.snapshot().slots) == exact(slot.slot() for slot in kept)
    assert sums(polled.minute) == sums(one.minute)


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 8), st.integers(0, 2**32), st.integers(1, 4))
def test_who_polls_while_pushes_come_hears_of_each_request_exactly_once(size, seed, every):
    dice, clocks = random.Random(seed), Clocks()
    senders = [Sender(f"w{n}", clocks.window(), clocks) for n in range(size)]
    shelf, polled, cursor, sent, heard, silent = MemoryShelf(), Together(), 0, 0, 0, Counter()
    for sender in senders:
        sender.push("arrives", shelf, [])
    for step in range(20):
        for _ in range(dice.randrange(6)):
            count(dice.choice(senders).window, clocks, "GET /a", dice.randrange(32, 2**30), "")
            sent += 1
        clocks.forward(SECOND_NS)
        on_the_way = []
        for sender in dice.sample(senders, size):
            silent[sender.name] += 1
            if silent[sender.name] < STALE_S - 1 and step < 19 and dice.random() < 0.5:
                continue
            silent[sender.name] = 0
            sender.push(dice.choice(["arrives", "twice", "answer is lost"]), shelf, on_the_way)
        for raw in on_the_way:
            shelf.keep(unpack(raw))
        if step % every == 0 or step == 19:
            now_ms = clocks.wall // 1_000_000
            polled.hear(shelf.words(), now_ms // 1000)
            snapshot = polled.snapshot(cursor)
            heard += sum(slot.n for slot in snapshot.slots)
            cursor = tick_of(snapshot, cursor, now_ms).cursor
    assert heard == sent


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 4), st.integers(0, 2**32), st.lists(shift, max_size=4))
def test_clocks_that_are_set_count_nothing_twice_and_soon_everything_again(size, seed, steps):
    dice, clocks = random.Random(seed), Clocks()
    senders = [Sender(f"w{n}", clocks.window(), clocks) for n in range(size)]
    shelf, polled, cursor, sent, heard = MemoryShelf(), Together(), 0, Counter(), Counter()
    for step in range(72):
        if step < 40 and step % 10 == 9 and steps:
            clocks.wall += steps.pop() * SECOND_NS
        name = "GET /early" if step < 52 else "GET /late"
        for _ in range(dice.randrange(1, 5) if step < 62 else 0):
            count(dice.choice(senders).window, clocks, name, 100, "")
            sent[name] += 1
        clocks.forward(SECOND_NS)
        for sender in senders:
            if dice.random() < 0.7 or step > 52:
                sender.push("arrives", shelf, [])
        now_ms = clocks.wall // 1_000_000
        polled.hear(shelf.words(), now_ms // 1000)
        tick = tick_of(polled.snapshot(cursor), cursor, now_ms)
        cursor = tick.cursor
        heard.update({part.name: part.n for part in tick.tick.routes})
        assert heard <= sent
    assert heard["GET /late"] == sent["GET /late"]


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2**32), st.lists(shift, max_size=4))
def test_an_app_that_is_asked_counts_nothing_twice_either_however_its_clock_is_set(seed, steps):
    dice, clocks, asker = random.Random(seed), Clocks(), Clocks()
    window, cursor, sent, heard = clocks.window(), 0, Counter(), Counter()
    for step in range(72):
        if step < 40 and step % 10 == 9 and steps:
            clocks.wall += steps.pop() * SECOND_NS
        name = "GET /early" if step < 52 else "GET /late"
        for _ in range(dice.randrange(5) if step < 62 else 0):
            count(window, clocks, name, 100, "")
            sent[name] += 1
        clocks.forward(SECOND_NS)
        asker.forward(SECOND_NS)
        if step % dice.randrange(1, 6) == 0 or step > 62:
            closed = tuple(one.slot() for one in window.closed(cursor))
            present = Snapshot("shop", dated(clocks.wall // 1_000_000, window.through), closed)
            tick = tick_of(present, cursor, asker.wall // 1_000_000)
            cursor = tick.cursor
            heard.update({part.name: part.n for part in tick.tick.routes})
        assert heard <= sent
    assert heard["GET /late"] == sent["GET /late"]
