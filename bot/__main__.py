"""The command line of Countersign.

python -m bot                      serve: the whole program in one process
python -m bot init                 from a bot token and a health address to your own phone
python -m bot release              what must be so before a release serves
python -m bot doctor               what is well, what is not, and what to do about it
python -m bot sink                 what the keeper of the copy off the box must be told
python -m bot charter check FILE   explain every mistake in a charter
python -m bot templates            make the WhatsApp templates at Twilio
python -m bot sandbox              everything on this machine, without any account
"""

import argparse
import asyncio
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from bot.channels.telegram import API
from bot.channels.whatsapp_templates import make_templates
from bot.doctor import doctor
from bot.init import CannotBegin, Wishes, init
from bot.offbox import told_secret
from bot.release import release
from bot.sandbox.command import sandbox
from bot.serve import serve
from bot.settings import NAMES, BadSettings, environment, process_environment, read
from handlers.charter import CharterError, load_all
from handlers.charter_check import hints


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
    _add_init(
        commands.add_parser("init", help="write .env and charter.toml, and print the link for your phone")
    )
    ready = commands.add_parser("release", help="check, load the FUNCTION, tell Telegram; safe to repeat")
    ready.set_defaults(run=lambda given, env: asyncio.run(release(env, _say)))
    well = commands.add_parser("doctor", help="exit code 0: all well, 1: something is not, 2: unknown")
    well.set_defaults(run=lambda given, env: asyncio.run(doctor(env, _say)))
    copy = commands.add_parser("sink", help="print the secret for the keeper of the copy off the box")
    copy.set_defaults(run=lambda given, env: _sink(env))
    templates = commands.add_parser("templates", help="make the WhatsApp templates at Twilio, for approval")
    templates.set_defaults(run=lambda given, env: asyncio.run(make_templates(read(env).twilio, print)))
    box = commands.add_parser("sandbox", help="the outside world on this machine, with a phone on a web page")
    box.add_argument("--play", metavar="NAME", help="play a script headless and end")
    box.add_argument("--json", action="store_true", help="one JSON object a line")
    box.set_defaults(run=lambda given, env: _sandbox(given))
    return parser


def _add_init(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--token", default="", help="of the bot, from @BotFather; asked for if left out")
    parser.add_argument("--health-url", default="", help="of your app; asked for if left out")
    parser.add_argument("--name", default="app", help="what to call your app (%(default)s)")
    parser.add_argument("--team", default="home", help="what to call your team (%(default)s)")
    parser.add_argument("--webhook", default="", help="that restarts your app: makes the first action")
    parser.add_argument("--timezone", default="", help="such as Africa/Harare; this machine's if left out")
    parser.add_argument("--force", action="store_true", help="overwrite both files; secrets are kept")
    parser.set_defaults(run=_init)


def _init(given: argparse.Namespace, env: Mapping[str, str]) -> int:
    wishes = Wishes(
        folder=Path(),
        token=given.token or env.get("TELEGRAM_BOT_TOKEN", ""),
        health_url=given.health_url,
        team=given.team,
        name=given.name,
        webhook=given.webhook,
        timezone=given.timezone,
        api_base=env.get("TELEGRAM_API_BASE", "") or API,
        force=given.force,
    )
    try:
        asyncio.run(init(wishes, _ask, _say))
    except CannotBegin as why:
        print(why, file=sys.stderr)
        return 1
    return 0


def _say(line: str) -> None:
    print(line, flush=True)


def _ask(question: str) -> str:
    """What the person at the terminal answers. Raises CannotBegin where nobody is."""
    try:
        return input(question)
    except EOFError:
        raise CannotBegin("Nobody is there to ask. Give --token and --health-url.") from None


def _sandbox(given: argparse.Namespace) -> int:
    """Told by the process's environment alone: the keys of the real thing in `.env` are not for it."""
    return sandbox(given.play, as_json=given.json, environment=process_environment())


def _sink(env: Mapping[str, str]) -> int:
    """Nothing but the secret on standard output, so that it can go into a file."""
    settings = read(env)
    where = settings.ledger_sink_url or "nowhere yet: set LEDGER_SINK_URL"
    print(
        f"Batches are posted to {where}. Their keeper: python -m ledger keep --secret-file FILE …",
        file=sys.stderr,
    )
    print(told_secret(settings.alert_secret))
    return 0


def _check(given: argparse.Namespace, env: Mapping[str, str]) -> int:
    try:
        found = load_all(given.path, NAMES)
    except CharterError as error:
        print(error)
        return 1
    for name, charter in found.items():
        what = f"{len(charter.people)} people and {len(charter.services)} services"
        print(f"{name}: a good charter of {what}, digest {charter.digest()[:16]}")
        for hint in hints(charter):
            print(f"  worth a look: {hint}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
