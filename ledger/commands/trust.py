"""The flags that say what a reader trusts: keys and receipts that did not come with the export."""

import argparse

from ledger import verify


def add_trust(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--key", "--witness", action="append", default=[], metavar="VKEY|FILE", dest="keys")
    parser.add_argument(
        "--receipt", "--receipts", action="append", default=[], metavar="SEQ:CODE|FILE", dest="receipts"
    )


def expecting(given: argparse.Namespace) -> verify.Verifier:
    """What takes the lines. Raises Unreadable for a key or a receipt that is none."""
    try:
        receipts = map(verify.read_receipt, verify.given(given.receipts))
        return verify.Verifier(receipts, [verify.read_key(key)[0] for key in verify.given(given.keys)])
    except ValueError as error:
        raise verify.Unreadable(f"{error}.") from None
