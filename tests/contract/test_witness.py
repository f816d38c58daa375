"""A witness vouches for a log that only grows, and for nothing else."""

import asyncio
import tempfile
from functools import reduce
from hashlib import sha256
from pathlib import Path

import aiohttp
import pytest
from aics_tlog.checkpoint import checkpoint_from_note
from aics_tlog.cosign import verify_cosignature
from aics_tlog.note import parse_vkey

from bot.sandbox.loopback import serve
from ledger.chain import Frontier, leaf_hash
from ledger.clock import ManualClock
from ledger.commands.witness import application
from ledger.consistency import proof
from ledger.note import Checkpoint, Signer, Verifier, Witness, read_note, signed
from ledger.witness import SIZE, Watchman, asked
from tests.chains import NOON

ORIGIN, SEED = "countersign/acme/0123456789abcdef", b"s" * 32
LEAVES = [leaf_hash(str(at).encode()) for at in range(40)]
AT = int(NOON.timestamp())


def frontier(size: int, leaves: list[bytes] = LEAVES) -> Frontier:
    return reduce(Frontier.append, leaves[:size], Frontier())


def note(size: int, origin: str = ORIGIN, seed: bytes = SEED, leaves: list[bytes] = LEAVES) -> str:
    return signed(Checkpoint(origin, size, frontier(size, leaves).root()), Signer(origin, seed))


def grown(old: int, size: int, **more) -> str:
    return asked(note(size, **more), old, proof(frontier(old), LEAVES[old:size]))


WITNESS = Witness("witness.example/w1", b"w" * 32)
KEYS = [Verifier.parse(Signer(ORIGIN, SEED).vkey)]


@pytest.fixture
def folder():
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="cs-") as made:
        yield Path(made)


@pytest.fixture
def watchman(folder):
    return Watchman(folder, WITNESS, KEYS)


def test_a_log_that_grows_is_cosigned_each_time(watchman):
    for old, size in ((0, 1), (1, 7), (7, 7), (7, 32), (32, 40)):
        reply = watchman.answer(grown(old, size), AT)
        assert reply.status == 200, reply.text
        cosigned = note(size) + reply.text
        assert Verifier.parse(WITNESS.vkey).verify(cosigned)
        assert KEYS[0].verify(cosigned)


def test_others_find_the_cosignature_good(watchman):
    reply = watchman.answer(grown(0, 9), AT)
    checkpoint, parsed = checkpoint_from_note(note(9) + reply.text)
    key, line = parse_vkey(WITNESS.vkey), parsed.signatures[-1]
    given = (line.name, key.public_key, checkpoint.origin, checkpoint.size, checkpoint.root)
    assert line.key_id == key.key_id
    assert verify_cosignature(line.signature, *given, max_age_seconds=1, now=AT)
    assert not verify_cosignature(line.signature, *given[:3], 10, given[4])


OTHER = [*LEAVES[:3], sha256(b"other").digest(), *LEAVES[4:]]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (grown(7, 9, origin="countersign/globex/0123456789abcdef"), 404),
        (grown(7, 9, seed=b"x" * 32), 403),
        (grown(9, 8), 400),
        (grown(0, 9), 409),
        (grown(6, 9), 409),
        (grown(8, 9), 409),
        (asked(note(7, leaves=OTHER), 7, []), 409),
        (asked(note(9), 7, []), 422),
        (asked(note(9), 7, proof(frontier(7), LEAVES[7:9])[::-1]), 422),
        (asked(note(9), 7, [*proof(frontier(7), LEAVES[7:9]), LEAVES[0]]), 422),
        (asked(note(9, leaves=OTHER), 7, proof(frontier(7), LEAVES[7:9])), 422),
        (asked(note(7), 7, [LEAVES[0]]), 422),
        (asked(note(9), 7, [LEAVES[0]] * 64), 400),
        ("", 400),
        ("old 07\n\n" + note(9), 400),
        ("old -1\n\n" + note(9), 400),
        ("old 7\nAAAA\n\n" + note(9), 400),
        ("old 7\n\n", 400),
        ("old 7\n" + note(9), 400),
        ("old 7\n\nno note", 400),
    ],
)
def test_what_is_not_proved_is_not_cosigned_and_changes_nothing(watchman, body, status):
    assert watchman.answer(grown(0, 7), AT).status == 200
    reply = watchman.answer(body, AT)
    assert reply.status == status, reply.text
    assert watchman.known(ORIGIN).size == 7
    if status == 409:
        assert (reply.text, reply.kind) == ("7\n", SIZE)
    assert watchman.answer(grown(7, 9), AT).status == 200


def test_what_it_cosigned_outlives_it(folder, watchman):
    assert watchman.answer(grown(0, 7), AT).status == 200
    again = Watchman(folder, WITNESS, KEYS)
    assert again.known(ORIGIN).size == 7
    assert again.answer(grown(0, 5), AT).text == "7\n"
    assert again.answer(grown(7, 12), AT).status == 200
    kept = next(folder.glob("*.note")).read_text()
    assert [one.name for one in read_note(kept)[1]] == [ORIGIN, WITNESS.name]


def test_a_disk_that_takes_nothing_gives_no_cosignature(folder, watchman, monkeypatch):
    def full(*given):
        raise OSError("full")

    with monkeypatch.context() as patched:
        patched.setattr("ledger.witness.write_durably", full)
        with pytest.raises(OSError, match="full"):
            watchman.answer(grown(0, 7), AT)
    assert watchman.known(ORIGIN).size == 0


async def test_of_many_at_once_one_wins_and_none_goes_back(watchman):
    served = await serve(application(watchman, ManualClock(NOON)))
    try:
        async with aiohttp.ClientSession() as session:

            async def post(body: str) -> int:
                async with session.post(f"{served.url}/add-checkpoint", data=body.encode()) as answer:
                    text = await answer.text()
                    assert answer.status in {200, 409}, text
                    return answer.status

            assert await post(grown(0, 7)) == 200
            answers = await asyncio.gather(*(post(grown(7, size)) for size in range(8, 40)))
    finally:
        await served.close()
    assert answers.count(200) == 1
    assert watchman.known(ORIGIN).size == 8 + answers.index(200)
