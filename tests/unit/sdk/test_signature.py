import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdk import receipt
from sdk.signature import is_fresh, key_of, sign, verify

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def test_it_signs_the_published_example_of_standard_webhooks():
    # The example of the Standard Webhooks and Svix documentation.
    signature = sign(SECRET, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')
    assert signature == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@given(st.binary(max_size=100), st.text(min_size=1, max_size=20), st.integers(0, 2**40))
def test_what_was_signed_verifies_and_nothing_near_it(body, id, timestamp):
    signature = sign(SECRET, id, timestamp, body)
    assert verify(SECRET, id, timestamp, body, signature)
    assert verify(SECRET, id, timestamp, body, f"v1,b2xk v2,x {signature}")
    assert not verify(SECRET, id, timestamp, body + b" ", signature)
    assert not verify(SECRET, id + "x", timestamp, body, signature)
    assert not verify(SECRET, id, timestamp + 1, body, signature)
    assert not verify(b"another key", id, timestamp, body, signature)
    assert not verify(SECRET, id, timestamp, body, signature.removeprefix("v1,"))


@pytest.mark.parametrize(
    "given_", ["", "v1", "v1,", "v1,=", "\u00e9", "v1," + "A" * 5000, " ".join(["v1,x"] * 100)]
)
def test_rubbish_is_no_signature(given_):
    assert not verify(SECRET, "1", 1, b"", given_)


def test_a_secret_is_base64_after_whsec_and_itself_otherwise():
    assert key_of("whsec_" + base64.b64encode(b"\x00\xff").decode()) == b"\x00\xff"
    assert key_of("plain") == key_of(b"plain") == b"plain"
    for broken in ("whsec_%%", "whsec_", "", b""):
        with pytest.raises(ValueError, match="secret"):
            key_of(broken)


def test_a_timestamp_is_fresh_within_five_minutes_either_way():
    assert is_fresh(1000, 1300)
    assert is_fresh("1300", 1000.0)
    for stale in (1000, "699", "-1000", "1e3", "1000.0", "", "\u0661", "9" * 5000, " 1000"):
        assert not is_fresh(stale, 1301)


@given(st.text(min_size=1, max_size=64), st.integers(1, 10**6), st.integers(0, 2**45))
def test_a_receipt_is_genuine_only_unchanged_and_with_its_own_key(id, counter, at_ms):
    key = receipt.key(SECRET)
    issued = receipt.issue(key, "restart_workers", id, "ok", counter, at_ms)
    assert receipt.is_genuine(key, issued)
    assert not receipt.is_genuine(SECRET, issued)
    for change in (
        {"result": "failed"},
        {"counter": counter + 1},
        {"at_ms": at_ms + 1},
        {"action": "x"},
        {"more": 1},
    ):
        assert not receipt.is_genuine(key, {**issued, **change})
    assert not receipt.is_genuine(key, {})
