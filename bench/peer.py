"""The alarms of fastapi-alertengine 1.7.0 on simulated traffic: its own code, fed as by its middleware.

* Its middleware appends one entry for each request that ended (latency, status, route), and `evaluate` looks
  at the newest 200: p95, share of failures, their "anomaly", a health score, a status. Here the entries are
  made of the simulated requests, in the order in which they ended; `evaluate` is called at each poll.
* All workers share one memory here, which is what it has with Redis; without, each worker has its own.
* `status` is its answer: an alarm when that is "critical". `ungated` is an alarm when its health score says
  "critical". `loop` is what its orchestrator opens an incident on: the same, and a score of 70 or less, and
  10 % of the requests failing. The orchestrator is no part of the package: these comparisons are ours, the
  numbers that they compare are its own. (It asks a model for its opinion then; here that agrees.)
* A poll that fails brings it nothing.
"""

from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass, field

from fastapi_alertengine.config import AlertConfig
from fastapi_alertengine.engine import AlertEngine

from bench.simulated.traffic import Look
from detectors.window import Missed

RULES = ("loop", "ungated", "status")
REMEMBERED = 200  # what its memory holds, and its window
SCORE, SHARE = 70.0, 0.10


@dataclass
class Peer:
    """One service as fastapi-alertengine sees it."""

    engine: AlertEngine = field(default_factory=lambda: AlertEngine(AlertConfig()))

    def see(self, look: Look) -> Mapping[str, bool]:
        """Return which of the rules alarm after one more poll."""
        if isinstance(look.seen, Missed):
            return dict.fromkeys(RULES, False)
        newest = zip(
            (look.latencies_s[-REMEMBERED:] * 1000).tolist(), look.failed[-REMEMBERED:].tolist(), strict=True
        )
        self.engine._recent.extend(  # noqa: SLF001  the deque that its `_aggregate_batch` fills
            {"latency_ms": ms, "type": "api", "status_code": 500 if failed else 200, "route": "/r"}
            for ms, failed in newest
        )
        answer = self.engine.evaluate()
        health = answer["health_score"]
        low = health["status"] == "critical"
        gated = low and health["score"] <= SCORE and answer["metrics"]["error_rate"] >= SHARE
        return {"loop": gated, "ungated": low, "status": answer["status"] == "critical"}

    def copy(self) -> "Peer":
        """Return a peer that goes on from here on its own."""
        engine = copy(self.engine)
        for name in ("_recent", "_score_history"):
            setattr(engine, name, getattr(self.engine, name).copy())
        return Peer(engine)
