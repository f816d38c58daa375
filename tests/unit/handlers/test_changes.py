"""The commits and deploys near an incident: what a payload tells, what counts as live, what is suspect."""

import contextlib
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from detectors.suspects import LISTED
from handlers.adapters.github import GONE, MOST, Malformed, changes_of, genuine
from handlers.changes import Change, Changes, candidates, kinds_of, merged

FIXTURES = Path("../shared/fixtures/github")
NOW_MS = 1_764_000_000_000
SHA = "6113728f27ae82c7b1a177c8d03f9e96e0adf246"
MINUTE_MS = 60_000

recorded = pytest.mark.skipif(not FIXTURES.exists(), reason="real payloads lie in ../shared/fixtures only")


def commit(number=1, message="Raise the pool to 40", **files):
    author = {"name": "Rudo", "username": "rudo-m"}
    return {"id": f"{number:040x}", "message": message, "author": author, **files}


def push(*commits, ref="refs/heads/main", **rest):
    after = commits[-1]["id"] if commits else SHA
    about = {"ref": ref, "after": after, "commits": list(commits)}
    return about | {"repository": {"full_name": "acme/checkout", "default_branch": "main"}} | rest


def deployed(state="success", environment="production", **rest):
    return {
        "deployment": {"sha": f"{1:040x}", "environment": environment, **rest},
        "deployment_status": {"state": state, "created_at": "2025-11-24T15:59:00Z"},
        "repository": {"full_name": "acme/checkout"},
    }


def read(payload, kind="push"):
    return changes_of(kind, json.dumps(payload).encode(), NOW_MS)


def test_the_signature_of_githubs_own_example_is_genuine_and_no_other():
    secret, body = b"It's a Secret to Everybody", b"Hello, World!"
    signature = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
    assert genuine(secret, body, signature)
    assert not genuine(secret, body + b" ", signature)
    assert not genuine(b"another", body, signature)
    for forged in ("", signature[7:], signature.upper(), "sha256=", "sha1=" + signature[7:], "sha256=ü"):
        assert not genuine(secret, body, forged)


def test_a_push_tells_title_author_files_and_their_kinds():
    (found,) = read(
        push(commit(message="Raise the pool to 40\n\nBecause", modified=["app/db/pool.py", "a.py"]))
    )
    assert found == Change(
        "acme/checkout", f"{1:040x}", NOW_MS, False, "Raise the pool to 40", "rudo-m", 2, ("code", "database")
    )
    assert found.text == "Raise the pool to 40 · rudo-m · 2 files: code, database"


def test_of_a_push_the_newest_commits_come_first_and_twenty_are_kept():
    found = read(push(*(commit(number) for number in range(1, 31))))
    assert [int(one.sha, 16) for one in found] == list(range(30, 30 - MOST, -1))


def test_a_head_that_is_not_among_the_commits_is_kept_too():
    found = read(push(commit(1), head_commit=commit(2)))
    assert [int(one.sha, 16) for one in found] == [2, 1]


def test_a_branch_that_was_set_back_without_new_commits_is_a_change():
    (found,) = read(push(forced=True, head_commit=None))
    assert (found.sha, found.text) == (SHA, "branch moved")


@pytest.mark.parametrize(
    "payload",
    [
        push(commit(), ref="refs/tags/v1"),
        push(commit(), ref="refs/heads/feature"),
        push(deleted=True, after=GONE, head_commit=None),
    ],
)
def test_tags_other_branches_and_deletions_change_nothing_that_runs(payload):
    assert read(payload) == []


def test_a_deploy_counts_once_it_succeeded_where_people_are_served():
    (found,) = read(deployed(), "deployment_status")
    assert (found.live, found.at_ms) == (True, 1_763_999_940_000)
    for other in (deployed("in_progress"), deployed("failure"), deployed(environment="github-pages")):
        assert read(other, "deployment_status") == []
    assert read(deployed(environment="blue", production_environment=True), "deployment_status")
    assert not read(deployed(production_environment=False), "deployment_status")
    assert not read(deployed(transient_environment=True), "deployment_status")


def test_a_deploy_from_the_future_is_taken_as_of_now():
    payload = deployed()
    payload["deployment_status"]["created_at"] = "2099-01-01T00:00:00Z"
    assert read(payload, "deployment_status")[0].at_ms == NOW_MS


def test_what_github_never_sends_is_refused_and_what_is_no_change_is_none():
    for raw in (b"", b"[]", b"null", b'{"ref":1}', b'{"ref":"x"}', b"\xff", b"{" * 50_000):
        with pytest.raises(Malformed):
            changes_of("push", raw, NOW_MS)
    with pytest.raises(Malformed, match=r"repository\.full_name"):
        read(push(commit()) | {"repository": {"full_name": "../../etc"}})
    for kind in ("ping", "deployment", "issues", ""):
        assert changes_of(kind, b"{}", NOW_MS) == []


@recorded
@pytest.mark.parametrize("path", sorted(FIXTURES.glob("*.json")), ids=lambda path: path.stem)
def test_each_real_payload_is_read(path):
    kind = path.name.partition(".")[0]
    found = changes_of(kind, path.read_bytes(), NOW_MS)
    expected = {"push.4": 1, "push.5": 1} | {f"deployment_status.{number}": 1 for number in (0, 2, 3)}
    assert len(found) == expected.get(path.stem, 0)


@recorded
@given(st.data())
def test_a_damaged_payload_is_read_or_refused_and_nothing_else(data):
    raw = bytearray((FIXTURES / "push.4.json").read_bytes())
    for _ in range(data.draw(st.integers(1, 5))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(Malformed):
        assert all(len(one.text) < 300 for one in changes_of("push", bytes(raw), NOW_MS))


def change(number, minutes=0, **rest):
    return Change("acme/checkout", f"{number:040x}", NOW_MS - minutes * MINUTE_MS, **rest)


def test_without_reported_deploys_the_newest_push_is_live():
    changes = Changes([change(2, 1), change(1, 5)])
    assert changes.live("Acme/Checkout") == f"{2:040x}"
    assert changes.live("acme/other") == changes.live("") == ""


def test_where_deploys_are_reported_a_push_is_not_live_yet():
    changes = Changes([change(3, 1), change(2, 4, live=True), change(1, 9, live=True)])
    assert changes.live("acme/checkout") == f"{2:040x}"
    assert [one.sha[-1] for one in changes.before("acme/checkout", NOW_MS)] == ["2", "1"]


def test_only_what_came_before_is_suspect_the_nearest_three():
    changes = Changes([change(number, number) for number in range(1, 9)])
    found = changes.before("acme/checkout", NOW_MS - 2 * MINUTE_MS)
    assert [one.sha[-1] for one in found] == ["2", "3", "4"]


def test_a_deploy_takes_its_words_from_the_push_of_its_commit():
    pushed = change(1, 9, title="Raise the pool", files=2)
    assert merged([pushed], change(1, 2, live=True)) == change(
        1, 2, live=True, title="Raise the pool", files=2
    )
    assert merged([pushed], change(2, 2, live=True)) == change(2, 2, live=True)


@pytest.mark.parametrize(("minutes", "listed"), [(0, True), (15, True), (7 * 60, True), (8 * 60, False)])
def test_a_change_is_suspect_for_some_hours(minutes, listed):
    (found,) = candidates([change(1, minutes)], NOW_MS)
    assert (found.score >= LISTED) is listed


def test_the_nearer_the_more_suspect():
    scores = [one.score for one in candidates([change(1, minutes) for minutes in (0, 5, 15, 60)], NOW_MS)]
    assert scores == sorted(scores, reverse=True)
    assert scores[2] == pytest.approx(scores[0] / 2)


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("requirements-dev.txt", "dependencies"),
        ("web/package-lock.json", "dependencies"),
        ("app/migrations/0007_pool.py", "database"),
        ("queries/slow.sql", "database"),
        ("deploy/nginx.conf", "network"),
        ("k8s/values.yaml", "config"),
        ("README.md", "docs"),
        ("tests/test_cart.py", "tests"),
        ("shop/cart.py", "code"),
    ],
)
def test_a_path_tells_what_kind_of_file_it_is(path, kind):
    assert kinds_of([path]) == (kind,)
