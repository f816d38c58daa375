"""The series detector on the Numenta Anomaly Benchmark, by its published scoring (Lavin and Ahmad, 2015).

    python -m bench.nab [ARCHIVE]        nab.tar.xz with the corpus and its labels; about four minutes

A detection within a labelled window earns the more the earlier it is, one outside costs the more the farther
it is, a window without one costs; 0 is no detector, 100 a perfect one. The thresholds are the defaults of
`detectors.series`; like every entry of the leaderboard they were chosen with all files in sight. The last row
shows what that hides: three thresholds chosen on four fifths of the files and scored on the fifth left out.
The length of a stretch, the fourth, stays as it is there. The second row is what `judge` runs: the same
thresholds for two rules, by the newest 1,500 points alone (detectors/lines.py).
"""

import csv
import io
import json
import sys
import tarfile
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import product
from math import exp
from pathlib import Path
from time import perf_counter

from detectors.lines import KEPT
from detectors.series import Look, Rest, Series, SeriesPolicy, compare

ARCHIVE = Path("../shared/data/nab.tar.xz")
PROFILES = {
    "standard": (0.11, 1.0),
    "low FP": (0.22, 1.0),
    "low FN": (0.11, 2.0),
}  # cost of a false alarm, a miss
FOLDS = 5
GRID = [
    SeriesPolicy(margin_permille=margin, shift_times_milli=times, rest_share=rest)
    for margin, times, rest in product(
        (0, 20, 30, 50), (1_500, 1_750, 2_000, 2_250, 2_500, 3_000), (20, 30, 45)
    )
]
PUBLISHED = {
    "ARTime": (74.9, 65.1, 80.4),
    "HTM": (70.1, 62.6, 75.2),
    "CAD OSE": (69.9, 67.0, 73.2),
    "Skyline": (58.2, 46.2, 63.9),
    "Windowed Gaussian": (39.6, 20.9, 47.4),
}


@dataclass(frozen=True)
class File:
    """One series of the corpus: its values, and the labelled windows as (first, last) index."""

    name: str
    values: Sequence[float]
    windows: Sequence[tuple[int, int]]

    @property
    def probation(self) -> int:
        """How many points at the beginning are not scored."""
        return min(int(0.15 * len(self.values)), 750)


@dataclass(frozen=True)
class Score:
    """What one file earned, before weights: hits in [0, 1] each, windows missed, and false alarms."""

    hits: float
    missed: int
    false: float


def sigmoid(position: float) -> float:
    """What a detection is worth, *position* windows after the end of one: 0.99 at its begin, 0 at its end."""
    return -1.0 if position > 3 else 2 / (1 + exp(5 * position)) - 1


def scored(file: File, detections: Iterable[int]) -> Score:
    hits: dict[int, float] = {}
    false = 0.0
    for at in detections:
        number = bisect_right(file.windows, at, key=lambda window: window[0]) - 1
        first, last = file.windows[number] if number >= 0 else (0, -1)
        if first <= at <= last:
            worth = sigmoid((at - last - 1) / (last - first + 1)) / sigmoid(-1)
            hits[number] = max(hits.get(number, 0.0), worth)
        else:
            false -= sigmoid((at - last) / (last - first)) if number >= 0 else -1.0
    return Score(sum(hits.values()), len(file.windows) - len(hits), false)


def total(scores: Iterable[Score], windows: int, profile: str) -> float:
    """The normalised score: 0 for no detection at all, 100 for a perfect one."""
    false_cost, miss_cost = PROFILES[profile]
    raw = sum(score.hits - score.missed * miss_cost - score.false * false_cost for score in scores)
    return 100 * (raw + windows * miss_cost) / (windows + windows * miss_cost)


def corpus(archive: Path) -> list[File]:
    with tarfile.open(archive) as tar:
        texts = {one.name: file.read().decode() for one in tar if (file := tar.extractfile(one))}
    labels = json.loads(texts["labels/combined_windows.json"])
    return [_file(name, texts[f"data/{name}"], labels[name]) for name in sorted(labels)]


def _file(name: str, text: str, labels: Sequence[tuple[str, str]]) -> File:
    rows = list(csv.reader(io.StringIO(text)))[1:]
    times = [row[0] for row in rows]
    windows = [(bisect_left(times, first[:19]), bisect_right(times, last[:19]) - 1) for first, last in labels]
    return File(name, [float(row[1]) for row in rows], windows)


def looks(file: File) -> list[Look]:
    series = Series()
    return [series.look(value) for value in file.values]


def compared(file: File) -> list[Look]:
    """The looks of the two rules that need nothing but the newest points."""
    return [compare(file.values[max(0, at - KEPT) : at], value) for at, value in enumerate(file.values)]


def detections(file: File, seen: Sequence[Look], policy: SeriesPolicy) -> list[int]:
    rest = Rest(policy)
    return [at for at, look in enumerate(seen) if rest.told(look.odd(policy), file.probation)]


def cross_validated(table: dict[SeriesPolicy, list[Score]], files: Sequence[File], profile: str) -> float:
    """Score each fold with the policy that is best on the other folds."""
    held: list[Score] = []
    for fold in range(FOLDS):
        inside = [at for at in range(len(files)) if at % FOLDS != fold]
        count = sum(len(files[at].windows) for at in inside)
        best = max(table, key=lambda policy: total([table[policy][at] for at in inside], count, profile))
        held += table[best][fold::FOLDS]
    return total(held, sum(len(file.windows) for file in files), profile)


def row(name: str, figures: Iterable[float]) -> str:
    return f"{name:<34}" + "".join(f"{figure:>10.1f}" for figure in figures)


def main() -> None:
    archive = Path(sys.argv[1]) if len(sys.argv) > 1 else ARCHIVE
    if not archive.exists():
        sys.exit(f"{archive} is not there. Name the archive with the corpus: python -m bench.nab ARCHIVE")
    files = corpus(archive)
    began = perf_counter()
    with ProcessPoolExecutor(2) as pool:
        seen = list(pool.map(looks, files))
        middle = perf_counter()
        live = list(pool.map(compared, files))
    points = sum(len(file.values) for file in files)
    spent_us, live_us = (span * 2e6 / points for span in (middle - began, perf_counter() - middle))
    windows = sum(len(file.windows) for file in files)
    table = {
        policy: [scored(file, detections(file, its, policy)) for file, its in zip(files, seen, strict=True)]
        for policy in {SeriesPolicy(), *GRID}
    }
    two = [scored(file, detections(file, its, SeriesPolicy())) for file, its in zip(files, live, strict=True)]
    print(f"{len(files)} files, {points:,} points, {windows} windows")
    print(f"{spent_us:.0f} µs a point, of two rules from packed points {live_us:.0f} µs\n")
    print(f"{'':<34}" + "".join(f"{profile:>10}" for profile in PROFILES))
    print(row("Countersign", (total(table[SeriesPolicy()], windows, profile) for profile in PROFILES)))
    print(row("Countersign, live: two rules", (total(two, windows, profile) for profile in PROFILES)))
    for name, figures in PUBLISHED.items():
        print(row(f"{name} (published)", figures))
    print(
        row(
            f"Countersign, {FOLDS}-fold cross-validated", (cross_validated(table, files, p) for p in PROFILES)
        )
    )


if __name__ == "__main__":
    main()
