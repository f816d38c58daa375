"""The app that nobody can reach: what it pushes, how often, and that nothing of it is felt by a request."""

import asyncio
import gzip
import json
import random
import threading
import time
import zlib
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdk import instrument, wire
from sdk.parcel import MOST_BYTES, pack, unpack
from sdk.push import Pusher, Target
from sdk.together import KEEP_S
from tests.unit.sdk.a_redis import dripping, listening, silent
from tests.unit.sdk.asgi_client import call, until
from tests.unit.sdk.test_middleware import ok
from tests.unit.sdk.test_together import SECOND_NS, Clocks, count, exact, word_of

URL, TOKEN = "https://bot.example.com/ingest/acme/checkout", "t0ken"


class Bot:
    """What a bot's door answers, in turn: a status, or None to hang up. The last is said again and again."""

    def __init__(self, *answers):
        self.answers, self.parcels, self.heads = list(answers), [], []

    def take(self, handler):
        body = handler.rfile.read(int(handler.headers["Content-Length"]))
        self.heads.append((handler.path, handler.headers["Authorization"]))
        status = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if status is not None and status < 300:
            self.parcels.append(unpack(body))
        return status

    def counted(self):
        """How many requests arrived, each second of each worker once."""
        seconds = {(one.worker, t): closed for one in self.parcels for t, closed in one.word.seconds.items()}
        return sum(closed.slot().n for closed in seconds.values())


@contextmanager
def answering(*answers):
    """Give a Bot, and its address."""
    bot = Bot(*answers)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            status = bot.take(self)
            if status is None:
                self.close_connection = True
                return
            self.send_response(status)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *said):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield bot, f"http://127.0.0.1:{server.server_port}/ingest/acme/checkout"
        finally:
            server.shutdown()
            thread.join()


class Named:
    name = "host-1-abcd"


def pusher(url):
    """Return a pusher that says what it is told to, without a thread."""
    made = Pusher(Target.parse(url, TOKEN))
    made._worker, made._connection = Named, made._target.connect()
    made._number = made._failures = 0
    made._waiting, made._arrived = set(), set()
    made._jitter = random.Random(1)
    return made


def second(window, clocks):
    count(window, clocks, "GET /", 100, "OSError")
    clocks.forward(SECOND_NS)
    return word_of(window, clocks)


# --- the parcel -------------------------------------------------------------------------------------------


def test_what_is_packed_is_unpacked_bit_for_bit():
    clocks = Clocks()
    window = clocks.window()
    word = second(window, clocks)
    parcel = unpack(pack("host-1", 7, word, word.seconds))
    assert (parcel.worker, parcel.number, parcel.word.through) == ("host-1", 7, word.through)
    assert parcel.word.present == word.present
    assert exact(one.slot() for one in parcel.word.seconds.values()) == exact(
        one.slot() for one in window.closed()
    )
    assert list(parcel.lines) == list(word.seconds)


def changed(**changes):
    clocks = Clocks()
    word = second(clocks.window(), clocks)
    first, *lines = gzip.decompress(pack("host-1", 1, word, word.seconds)).split(b"\n")
    return b"\n".join([json.dumps({**json.loads(first), **changes}).encode(), *lines])


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (b"", "not JSON"),
        (b"[]", "object"),
        (changed(worker="../../etc"), "worker is not"),
        (changed(worker=None), "worker is not"),
        (changed(number=0), "number is not"),
        (changed(number=True), "number is not"),
        (changed(index=[]), "announces"),
        (changed(index=[1]), "not closed yet, or older"),
        (changed(through=1), "not closed yet"),
        (changed(through="1"), "whole numbers"),
        (changed(schema="slots/9"), "schema"),
        (changed() + b"\n{}", "announces"),
        (b"\x1f\x8bnonsense", "no gzip"),
        (gzip.compress(changed())[:-9], "cut off"),
        (gzip.compress(changed()) + b"x", "behind its end"),
        (gzip.compress(b" " * (MOST_BYTES + 1)), "longer than"),
        (gzip.compress(b"\0" * (256 * 1024 * 1024), 9), "longer than"),
    ],
)
def test_what_is_no_parcel_is_refused_with_what_is_wrong(raw, why):
    with pytest.raises(wire.Malformed, match=why):
        unpack(raw)


@given(st.binary(max_size=80), st.booleans())
def test_no_bytes_at_all_make_anything_else_of_unpacking_than_a_parcel_or_malformed(raw, squeezed):
    with pytest.raises(wire.Malformed):
        unpack(zlib.compress(raw, wbits=31) if squeezed else raw)


# --- the pusher -------------------------------------------------------------------------------------------


def test_a_second_is_pushed_once_it_arrived_and_again_until_it_does():
    clocks = Clocks()
    window = clocks.window()
    with answering(503, 200, 200) as (bot, url):
        one = pusher(url)
        assert one.say(second(window, clocks)) <= 1
        assert one.trouble == "the bot answered 503"
        one.say(second(window, clocks))
        assert one.trouble == ""
        one.say(second(window, clocks))
        one._connection.close()
    assert [sorted(p.lines) for p in bot.parcels] == [
        [1_764_000_000, 1_764_000_001],
        [1_764_000_002],
    ]
    assert [p.number for p in bot.parcels] == [2, 3]
    assert bot.heads[0] == ("/ingest/acme/checkout", f"Bearer {TOKEN}")


def test_a_kept_connection_that_the_bot_closed_is_no_failure():
    clocks = Clocks()
    window = clocks.window()
    with answering(200, None, 200) as (bot, url):
        one = pusher(url)
        for _ in range(2):
            one.say(second(window, clocks))
            assert one.trouble == ""
        one._connection.close()
    assert bot.counted() == 2


def test_an_app_without_requests_still_says_that_it_lives():
    clocks = Clocks()
    with answering(200) as (bot, url):
        one = pusher(url)
        one.say(word_of(clocks.window(), clocks))
        one._connection.close()
    assert [(p.lines, p.word.present.service) for p in bot.parcels] == [({}, "checkout")]


def test_after_a_clock_was_set_back_a_second_that_comes_again_is_pushed_again():
    clocks = Clocks()
    window = clocks.window()
    with answering(200) as (bot, url):
        one = pusher(url)
        for _ in range(3):
            one.say(second(window, clocks))
        clocks.wall -= 20 * SECOND_NS
        for _ in range(20):
            one.say(second(window, clocks))
        one._connection.close()
    told = [t for p in bot.parcels for t in p.lines]
    assert told.count(1_764_000_001) == 2
    assert one.lost == 0


def test_the_queue_is_the_last_minute_and_what_falls_out_is_counted():
    clocks = Clocks()
    window = clocks.window()
    with answering(503) as (_, url):
        one = pusher(url)
        for _ in range(KEEP_S + 7):
            one.say(second(window, clocks))
        one._connection.close()
    assert len(one._waiting) <= KEEP_S + 1
    assert one.lost + len(one._waiting) == KEEP_S + 7


def test_what_is_too_much_for_one_parcel_comes_in_several_oldest_first(monkeypatch):
    monkeypatch.setattr("sdk.push.MOST_LINES", 500)
    clocks = Clocks()
    window = clocks.window()
    for _ in range(9):
        word = second(window, clocks)
    with answering(200) as (bot, url):
        one = pusher(url)
        one.say(word)
        one._connection.close()
    assert len(bot.parcels) > 2
    assert max(sum(map(len, p.lines.values())) for p in bot.parcels) <= 1000
    assert [t for p in bot.parcels for t in p.lines] == sorted(word.seconds)


@pytest.mark.parametrize(
    ("status", "said", "longest"),
    [
        (401, "refuses", 15),
        (413, "refuses", 15),
        (302, "refuses", 15),
        (429, "answered 429", 5),
        (500, "500", 5),
    ],
)
def test_pauses_grow_to_a_bound_and_the_reason_is_kept(status, said, longest, caplog):
    clocks = Clocks()
    window = clocks.window()
    with answering(status) as (_, url):
        one = pusher(url)
        pauses = [one.say(word_of(window, clocks)) for _ in range(12)]
        one._connection.close()
    assert said in one.trouble
    assert pauses[0] <= 1
    assert longest / 2 <= pauses[-1] <= longest
    assert caplog.text.count("is not with the bot") == 1


@pytest.mark.parametrize(
    ("url", "token", "why"),
    [
        ("", "", None),
        ("bot.example.com", TOKEN, "no address"),
        ("https://", TOKEN, "no address"),
        ("https://u:p@bot/ingest/a/b", TOKEN, "no address"),
        ("https://bot:0x/ingest/a/b", TOKEN, "no address"),
        ("http://bot.example.com/ingest/a/b", TOKEN, "clear text"),
        (URL, None, "push_token is missing"),
        (URL, "two words", "no token"),
        (URL, "line\nbreak", "no token"),
        (None, TOKEN, "without push_url"),
    ],
)
def test_a_push_that_cannot_work_is_told_when_the_app_is_set_up(url, token, why):
    if why is None:
        assert instrument(ok, push_url=url, push_token=token)._pusher is None
        return
    with pytest.raises(ValueError, match=why):
        instrument(ok, push_url=url, push_token=token)
    assert TOKEN not in repr(Target.parse(URL, TOKEN))


# --- in an app --------------------------------------------------------------------------------------------


async def test_an_app_pushes_from_its_first_request_on_and_its_last_word_when_it_closes():
    with answering(200) as (bot, url):
        monitor = instrument(ok, service="shop", push_url=url, push_token=TOKEN)
        for _ in range(5):
            await call(monitor.app)
        await until(lambda: bot.parcels)
        monitor._window.turn()
        await asyncio.to_thread(monitor.close)
        assert bot.counted() == 5
        _, _, body = await call(monitor.app, path="/health/alerts")
        assert json.loads(body)["push"] == {"trouble": "", "lost_seconds": 0}


@pytest.mark.parametrize("serve", [silent, dripping, lambda connection: None])
async def test_a_bot_that_hangs_neither_slows_nor_fails_a_request_and_is_told(serve, monkeypatch):
    monkeypatch.setattr("sdk.push.TIMEOUT_S", 0.2)
    monkeypatch.setattr("sdk.push.LONGEST_S", 0.4)
    with listening(serve) as port:
        monitor = instrument(ok, push_url=f"http://127.0.0.1:{port}/ingest/a/b", push_token=TOKEN)
        before = time.thread_time_ns()
        for _ in range(200):
            assert (await call(monitor.app))[0] == 200
        assert time.thread_time_ns() - before < 1_000_000_000
        await until(lambda: monitor._pusher.trouble)
        _, _, body = await call(monitor.app, path="/health/alerts")
        assert json.loads(body)["push"]["trouble"].startswith("the bot could not be reached")
        monitor._pusher._stop.set()


def test_nothing_is_opened_before_the_first_request():
    before = {t.name for t in threading.enumerate()}
    with listening(silent) as port:
        instrument(ok, push_url=f"http://127.0.0.1:{port}/x", push_token=TOKEN)
        assert {t.name for t in threading.enumerate() if t.name.startswith("countersign")} <= before
