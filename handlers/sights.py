"""What the other processes saw last of the services that they look at, each with its time.

A sight is news for two intervals between looks. After that nobody knows, and whoever asks is told so.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from detectors.verdict import Verdict
from handlers.crew import Heard

type Counts = tuple[int, int]
"""How many services do not answer, of how many."""


@dataclass(frozen=True, slots=True)
class Sight:
    """What *by* saw of one service at *at_ms* of our clock; *missed* looks in a row had found no answer."""

    by: str
    at_ms: int
    missed: int
    verdict: Verdict

    def is_news(self, now_ms: int, fresh_ms: int) -> bool:
        """Whether it is known still. Of a time to come nothing is known: a clock was set."""
        return 0 <= now_ms - self.at_ms <= fresh_ms


class Sights:
    """The sights of the others, and what this process saw itself of services that others look at now."""

    def __init__(self) -> None:
        self._kept: dict[str, Sight] = {}
        self.counts: Mapping[str, Counts] = {}
        """By process, as of the last `hear`."""

    def of(self, service: str) -> Sight | None:
        return self._kept.get(service)

    def put(self, service: str, sight: Sight) -> None:
        self._kept[service] = sight

    def hear(self, heard: Iterable[Heard], now_ms: int, fresh_ms: int, ours: Collection[str]) -> None:
        """Take up what others said by now. What is *ours* is counted with ours."""
        for one in heard:
            for word in one.said.words:
                at_ms = now_ms - one.age_ms - word.age_ms
                self._kept[word.service] = Sight(one.by, at_ms, word.missed, word.verdict)
        found: dict[str, Counts] = {}
        for service, sight in self._kept.items():
            if sight.by and service not in ours and sight.is_news(now_ms, fresh_ms):
                missed, of = found.get(sight.by, (0, 0))
                found[sight.by] = missed + bool(sight.missed), of + 1
        self.counts = found

    def forget_all_but(self, services: Collection[str]) -> None:
        self._kept = {name: sight for name, sight in self._kept.items() if name in services}
