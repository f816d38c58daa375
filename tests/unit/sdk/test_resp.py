"""The little Redis client: what it says, what it understands, and that nothing makes it wait or break."""

import socket
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdk.resp import Address, Client, Garbled, Refused, packed
from tests.unit.sdk.a_redis import dripping, listening, silent


class Script:
    """A socket at whose other end somebody says *what*, then hangs up."""

    def __init__(self, what, step=65536):
        self._left, self._step, self.said = what, step, b""

    def settimeout(self, seconds):
        assert seconds > 0

    def sendall(self, raw):
        self.said += raw

    def recv(self, most):
        size = min(most, self._step)
        found, self._left = self._left[:size], self._left[size:]
        return found

    def close(self):
        self._left = b""


def asked(what, *commands, step=65536):
    client = Client(Address("nowhere"))
    client._socket = Script(what, step)
    return client(*commands or [("PING",)])


@pytest.mark.parametrize("step", [1, 2, 7, 65536])
def test_every_kind_of_answer_is_understood_however_it_is_cut(step):
    said = b"+OK\r\n:-7\r\n$5\r\na\r\nbc\r\n$-1\r\n*3\r\n$1\r\nx\r\n*1\r\n:1\r\n$-1\r\n*-1\r\n$0\r\n\r\n"
    assert asked(said, *[("X",)] * 7, step=step) == [
        b"OK",
        -7,
        b"a\r\nbc",
        None,
        [b"x", [1], None],
        None,
        b"",
    ]


def test_a_command_is_said_in_bytes_that_nothing_in_it_can_break_out_of():
    assert packed(("HSET", "k\r\nFLUSHALL\r\n", b"\x00", 12)) == (
        b"*4\r\n$4\r\nHSET\r\n$13\r\nk\r\nFLUSHALL\r\n\r\n$1\r\n\x00\r\n$2\r\n12\r\n"
    )


@given(st.binary(max_size=200) | st.text("*$+-:\r\n0159", max_size=60).map(str.encode))
def test_whatever_answers_nothing_but_oserror_comes_out(what):
    client = Client(Address("nowhere"))
    client._socket = Script(what)
    try:
        client(("PING",))
    except OSError:
        assert client._socket is None


@pytest.mark.parametrize("said", [b"$99999999999\r\n", b"*9999999\r\n", b"*1\r\n" * 9, b"x" * 9000, b"?\r\n"])
def test_what_is_too_much_or_no_answer_is_refused_before_it_is_read(said):
    with pytest.raises(Garbled):
        asked(said)


def test_an_error_of_the_server_is_told_in_its_words_and_ends_the_connection():
    client = Client(Address("nowhere"))
    client._socket = Script(b"-NOPERM this user has no permissions\r\n+OK\r\n")
    with pytest.raises(Refused, match="NOPERM this user"):
        client(("GET", "x"), ("PING",))
    assert client._socket is None


@pytest.mark.parametrize("serve", [silent, dripping])
def test_a_server_that_is_slow_costs_no_more_than_the_deadline(serve):
    with listening(serve) as port:
        client = Client(Address("127.0.0.1", port), deadline_s=0.2)
        begun = time.monotonic()
        with pytest.raises(TimeoutError):
            client(("SMEMBERS", "x"))
        assert 0.15 < time.monotonic() - begun < 10
        assert client._socket is None


def test_a_server_that_is_not_there_is_an_oserror():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(ConnectionRefusedError):
        Client(Address("127.0.0.1", port))(("PING",))


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("redis://h", Address("h")),
        ("redis://h:7/3", Address("h", 7, db=3)),
        ("redis://:p%40ss@h/0", Address("h", password="p@ss")),
        (
            "rediss://u:p@h:1?ssl_cert_reqs=none",
            Address("h", 1, user="u", password="p", tls=True, verify=False),
        ),
        ("rediss://h?ssl_ca_certs=/ca.pem&db=2", Address("h", tls=True, ca="/ca.pem", db=2)),
        ("unix:///run/r%20s.sock?db=4", Address(path="/run/r s.sock", db=4)),
        ("unix://u:p@/s", Address(path="/s", user="u", password="p")),
    ],
)
def test_addresses_are_read_as_everybody_writes_them(url, address):
    assert Address.parse(url) == address


@pytest.mark.parametrize(
    "url", ["", "h:6379", "http://h", "redis://", "redis://h/x", "unix://", "redis://h:99999"]
)
def test_an_address_that_is_none_is_told_at_once_with_what_to_write(url):
    with pytest.raises(ValueError, match=r"redis_url.*redis://host:6379/0"):
        Address.parse(url)


def test_a_password_is_never_shown():
    assert "s3cret" not in repr(Address.parse("redis://u:s3cret@h"))
