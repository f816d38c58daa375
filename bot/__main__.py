"""The command line of Countersign.

python -m bot                      serve: the whole program in one process
python -m bot charter check FILE   explain every mistake in a charter
python -m bot templates            make the WhatsApp templates at Twilio
python -m bot sandbox              everything on this machine, without any account
"""

import argparse
import asyncio
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from bot.channels.whatsapp_templates import make_templates
from bot.sandbox.command import sandbox
from bot.serve import serve
from bot.settings import NAMES, BadSettings, environment, read
from handlers.charter import CharterError, load_all


def main(arguments: Sequence[str]) -> int:
    given = _parser().parse_args(arguments)
    try:
        return int(given.run(given, environment()))
    except BadSettings as wrong:
        print(wrong, file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bot", description="Countersign, the incident control plane."
    )
    parser.set_defaults(run=lambda given, env: serve(env))
    commands = parser.add_subparsers(metavar="COMMAND")
    charter = commands.add_parser("charter", help="read a charter").add_subparsers(required=True)
    check = charter.add_parser("check", help="explain every mistake in it")
    check.add_argument("path", type=Path)
    check.set_defaults(run=_check)
    templates = commands.add_parser("templates", help="make the WhatsApp templates at Twilio, for approval")
    templates.set_defaults(run=lambda given, env: asyncio.run(make_templates(read(env).twilio, print)))
    box = commands.add_parser("sandbox", help="the outside world on this machine, with a phone on a web page")
    box.add_argument("--play", metavar="NAME", help="play a script headless and end")
    box.add_argument("--json", action="store_true", help="one JSON object a line")
    box.set_defaults(run=lambda given, env: sandbox(given.play, as_json=given.json, environment=env))
    return parser


def _check(given: argparse.Namespace, env: Mapping[str, str]) -> int:
    try:
        found = load_all(given.path, NAMES)
    except CharterError as error:
        print(error)
        return 1
    for name, charter in found.items():
        what = f"{len(charter.people)} people and {len(charter.services)} services"
        print(f"{name}: a good charter of {what}, digest {charter.digest()[:16]}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
