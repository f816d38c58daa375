"""`/policy`: every threshold, where it comes from, and what each rule came to lately.

* `/policy` is the summary that fits a phone: the policy's name, what is not as usual, each rule's record.
* `/policy RULE` shows its thresholds and what it would have said in shadow; `/policy SERVICE` what is
  different there; `/policy all` every threshold, in as many messages as that takes.
* The record is the ledger's, of thirty days, by bot/lately.py; what shadow says is handlers/shadow.py's.
"""

import asyncio
from collections import Counter
from collections.abc import Iterable, Sequence

from bot.lately import DAY_MS, DAYS, MOST, Past, Said, by_rule, precision
from bot.order import Order
from bot.ports import Answer
from bot.thresholds import MEANS, Threshold, common, in_force, keys_of, own
from bot.words import at, count, listed, many
from detectors.policy import EVERY, RULES, Policy
from handlers.shadow import Episode, Shelf, every
from ledger.store import StoreDown

COUNTED = (
    "Confirmed: somebody said that the cause was right, or approved an action that helped. "
    "Precision is of those of which somebody said anything."
)
MORE = "/policy RULE or /policy SERVICE for more, /policy all for every threshold."
SHARES = "p0 is the share that counts as healthy, p1 as sick; sustain is for how long it must last."
NEWEST = 3


async def policy(order: Order, shelf: Shelf) -> Answer:
    view, charter = order.room.ledger.view, order.room.charter
    found, asked = order.room.rulebook.policy(view), order.first.lower()
    thresholds = in_force(found, charter)
    if asked == "all":
        return Answer("\n".join(_all(found, thresholds)))
    if asked in found.services or (charter and charter.service(asked)):
        return Answer("\n".join(_of_service(found, asked)))
    past, now_ms = Past.of(view), order.room.now_ms()
    tallies = await asyncio.to_thread(by_rule, past, now_ms)
    episodes, sorry = await _shadow(order, shelf)
    if asked in RULES or asked in tallies:
        tally = tallies.get(asked, Counter())
        return Answer("\n".join(_of_rule(order, found, thresholds, asked, tally, episodes) + sorry))
    if asked:
        return Answer(f"There is no rule or service of that name. The rules are {', '.join(RULES)}. {MORE}")
    if past.is_cut(now_ms - DAYS * DAY_MS):
        sorry.append(f"There were more incidents than the newest {count(MOST)}, which are counted here.")
    return Answer("\n".join(_summary(found, thresholds, view.rules.label, tallies, episodes) + sorry))


async def _shadow(order: Order, shelf: Shelf) -> tuple[list[Episode], list[str]]:
    """What rules in shadow would have said in thirty days, the newest first; or why nobody knows."""
    since_ms = order.room.now_ms() - DAYS * DAY_MS
    try:
        found = await every(shelf, order.room.tenant)
    except StoreDown:
        return [], ["What rules in shadow would have said cannot be read now. Try again in a minute."]
    return sorted((e for e in found if e.until_ms >= since_ms), key=lambda e: -e.since_ms), []


def _summary(
    policy: Policy,
    thresholds: dict[str, Threshold],
    label: str,
    tallies: dict[str, Counter[Said]],
    episodes: Sequence[Episode],
) -> list[str]:
    rules = [*RULES, *sorted(tallies.keys() - set(RULES)), *_others(episodes, tallies)]
    told = {rule: _record(policy, rule, tallies.get(rule, Counter()), episodes) for rule in rules}
    silent = [rule for rule, said in told.items() if not said]
    return [
        f"Policy {label}. {_sources(thresholds.values())}",
        *_differs(policy),
        f"Last {DAYS} days:",
        *(f"{rule}: {said}" for rule, said in told.items() if said),
        *([f"Nothing from {', '.join(silent)}."] if silent else []),
        COUNTED,
        MORE,
    ]


def _others(episodes: Iterable[Episode], tallies: dict[str, Counter[Said]]) -> list[str]:
    """Rules of other tools that spoke in shadow alone."""
    return sorted({one.rule for one in episodes} - set(RULES) - tallies.keys())


def _sources(thresholds: Iterable[Threshold]) -> str:
    """48 thresholds, all default; or: 45 default, 2 from the charter, 1 from the environment."""
    counts = Counter(_kind(one.source) for one in thresholds)
    if counts.keys() == {"default"}:
        return f"{counts.total()} thresholds, all at their defaults."
    said = [f"{counts[kind]} {words}" for kind, words in _KINDS.items() if counts[kind]]
    return f"{counts.total()} thresholds: {', '.join(said)}."


_KINDS = {"default": "default", "charter": "from the charter", "environment": "from the environment"}


def _kind(source: str) -> str:
    return source if source in _KINDS else "environment"


def _differs(policy: Policy) -> list[str]:
    """Which services have thresholds of their own, and what stands in shadow."""
    own_ones = [f"{name} ({len(said)})" for name, said in own(policy).items() if said]
    return [*([f"Thresholds of their own: {', '.join(own_ones)}."] if own_ones else []), *in_shadow(policy)]


def in_shadow(policy: Policy) -> list[str]:
    """A line that names what is recorded and not told; none where nothing is."""
    silent = [*policy.shadow] if EVERY not in policy.shadow else ["every rule"]
    for name in policy.services:
        theirs = policy.of(name).shadow
        if EVERY in theirs:
            silent.append(f"all of {name}")
        elif theirs != policy.shadow:
            silent.append(f"{listed(theirs, 'and') or 'nothing'} of {name}")
    return [f"🌒 In shadow, recorded and nobody told: {', '.join(silent)}."] if silent else []


def _record(policy: Policy, rule: str, tally: Counter[Said], episodes: Sequence[Episode]) -> str:
    """9 opened: 7 confirmed, 1 not an incident, 1 unsaid. Precision 7 of 8. Empty where there is nothing."""
    said = []
    if opened := tally.total():
        parts = [f"{tally[word]} {word}" for word in Said if tally[word]]
        right, of = precision(tally)
        said.append(f"{opened} opened: {', '.join(parts)}.")
        said += [f"Precision {right} of {of}."] if of else []
    theirs = [one for one in episodes if one.rule == rule]
    if theirs or policy.shadows(rule):
        said.append(_would_have(theirs))
    return " ".join(said)


def _would_have(episodes: Sequence[Episode]) -> str:
    alone = sum(one.alone for one in episodes)
    if not episodes:
        return "In shadow, and would not have spoken."
    opened = f", {alone} of them opening an incident" if alone < len(episodes) else ""
    return f"In shadow it would have spoken {many(len(episodes), 'time')}{opened}."


def _of_rule(
    order: Order,
    policy: Policy,
    thresholds: dict[str, Threshold],
    rule: str,
    tally: Counter[Said],
    episodes: Sequence[Episode],
) -> list[str]:
    keys = keys_of(rule)
    record = _record(policy, rule, tally, episodes) or "it said nothing."
    theirs = [one for said in own(policy).values() for one in said if one.key in keys]
    return [
        f"{rule}: {MEANS.get(rule, 'what another tool says')}.",
        f"Last {DAYS} days: {record}",
        *(_episode(one, order.zone) for one in [e for e in episodes if e.rule == rule][:NEWEST]),
        *(thresholds[key].line for key in keys),
        *(one.line for one in theirs),
        *([SHARES] if any("_p0_" in key for key in keys) else []),
        "The thresholds of every rule: /policy all" if keys else "It has no thresholds of its own.",
    ]


def _episode(one: Episode, zone: str) -> str:
    """Tue 17 Nov 03:12 checkout: 62 % of requests are slow (critical)"""
    return f"🌒 {at(one.since_ms, zone):%a %d %b %H:%M} {one.service}: {one.headline} ({one.severity})"


def _of_service(policy: Policy, name: str) -> list[str]:
    theirs = own(policy).get(name, [])
    shadow = policy.of(name).shadow
    silent = "every rule" if EVERY in shadow else listed(shadow, "and")
    return [
        f"{name}: {many(len(theirs), 'threshold')} of its own. All others are those of /policy all.",
        *(one.line for one in theirs),
        *([f"🌒 In shadow: {silent}. Nobody is told of what it finds."] if silent else []),
    ]


def _all(policy: Policy, thresholds: dict[str, Threshold]) -> list[str]:
    """Every threshold once, below the first rule that uses it."""
    lines, seen = [f"Policy {policy.label}, every threshold."], set[str]()
    for head, keys in [("For all rules", common()), *((rule, keys_of(rule)) for rule in RULES)]:
        fresh = [key for key in keys if key not in seen]
        seen |= {*fresh}
        lines += [f"\n{head}", *(thresholds[key].line for key in fresh)] if fresh else []
    for name, theirs in own(policy).items():
        lines += [f"\n{name}", *(one.line for one in theirs)] if theirs else []
    return [*lines, *_differs(policy)]
