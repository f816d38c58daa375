"""What may happen to requests: each of these takes the ones that a change has chosen, and alters them."""

import numpy as np
from numpy.random import Generator

from bench.simulated.traffic import Batch, Mask, Touch

FOR_EVER_S = 1e6
BACKOFF_S = 0.5


def some(rng: Generator, chosen: Mask, share: float) -> Mask:
    """Return *share* of the chosen, by chance."""
    return chosen & (rng.random(chosen.size) < share)


def failing(share: float, seconds: float | None = None) -> Touch:
    """Let *share* fail, in *seconds* where that is given: an app that fails at once is fast."""

    def touch(rng: Generator, batch: Batch, chosen: Mask) -> None:
        hit = some(rng, chosen, share)
        batch.failed |= hit
        if seconds is not None:
            batch.seconds[hit] = seconds

    return touch


def slower(times: float, share: float = 1.0) -> Touch:
    def touch(rng: Generator, batch: Batch, chosen: Mask) -> None:
        batch.seconds[some(rng, chosen, share)] *= times

    return touch


def leaking(times: float, begins: float, over_s: float) -> Touch:
    """Let latency rise evenly to *times* what it was."""

    def touch(_rng: Generator, batch: Batch, chosen: Mask) -> None:
        how_far = np.clip((batch.start[chosen] - begins) / over_s, 0, 1)
        batch.seconds[chosen] *= 1 + (times - 1) * how_far

    return touch


def hanging(share: float, seconds: float = FOR_EVER_S) -> Touch:
    def touch(rng: Generator, batch: Batch, chosen: Mask) -> None:
        hit = some(rng, chosen, share)
        batch.seconds[hit] = np.maximum(batch.seconds[hit], seconds)

    return touch


def lost(share: float) -> Touch:
    """Let *share* never arrive: their worker is dead, and whoever counts there is too."""
    return lambda rng, batch, chosen: batch.where(~some(rng, chosen, share))


def on_route(route: int, inner: Touch) -> Touch:
    return lambda rng, batch, chosen: inner(rng, batch, chosen & (batch.route == route))


def paused(period_s: float, lasts_s: float, phase_s: float) -> Touch:
    """Let what starts in a pause wait for its end: a garbage collector stops the world."""

    def touch(_rng: Generator, batch: Batch, chosen: Mask) -> None:
        batch.seconds[chosen] += lasts_s - (batch.start[chosen] + phase_s) % period_s

    return touch


def retried(share: float, times: int, burden: float) -> Touch:
    """Let *share* fail, each failure be tried *times* more, and latency grow by *burden* for the load."""

    def touch(rng: Generator, batch: Batch, chosen: Mask) -> Batch:
        hit = some(rng, chosen, share)
        batch.failed |= hit
        again = batch.where(hit)
        for _ in range(times):
            again = Batch(again.end + BACKOFF_S, again.seconds.copy(), again.failed.copy(), again.route)
            again.failed = rng.random(again.failed.size) < share
            batch = batch.and_then(again)
            again = again.where(again.failed)
        batch.seconds *= np.where(batch.start >= batch.start[chosen.argmax()], burden, 1.0)
        return batch

    return touch


def both(first: Touch, second: Touch) -> Touch:
    """Do one and then the other; the first must not change how many there are."""

    def touch(rng: Generator, batch: Batch, chosen: Mask) -> Batch | None:
        first(rng, batch, chosen)
        return second(rng, batch, chosen)

    return touch
