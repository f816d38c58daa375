"""`python -m ledger doctor`: whether the server is fit to keep a ledger, asked as the app's user."""

import argparse
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

from ledger.commands.place import add_place, add_tenant, opened
from ledger.doctor import Finding, examine, examine_log
from ledger.outside import NoteFile
from ledger.redis_store import commands, connect

NAME = "doctor"
HELP = "whether the server is fit to keep a ledger"


def configure(parser: argparse.ArgumentParser) -> None:
    add_place(parser)
    add_tenant(parser, required=False)
    parser.add_argument("--deploy", metavar="URL", help="a user who may ask what the app's may do")
    parser.add_argument("--state", type=Path, help="where notes are kept outside the server: DATA_DIR/state")


async def run(given: argparse.Namespace) -> int:
    found = [finding async for finding in _findings(given)]
    for finding in found:
        print({True: "well   ", False: "NOT SO ", None: "unknown"}[finding.well], finding.sentence)
    judged = {finding.well for finding in found}
    return 1 if False in judged else 2 if None in judged else 0


async def _findings(given: argparse.Namespace) -> AsyncIterator[Finding]:
    async with AsyncExitStack() as closing:
        store = await closing.enter_async_context(opened(given))
        deploy = None
        if given.deploy:
            client = connect(given.deploy, tls_verify=given.tls_verify)
            closing.push_async_callback(client.aclose)
            deploy = commands(client)
        elif given.data_dir:
            deploy = (await closing.enter_async_context(opened(given, "deploy"))).commands
        async for finding in examine(store, deploy):
            yield finding
        if given.tenant:
            state = given.state or (given.data_dir and given.data_dir / "state")
            outside = NoteFile(state, given.tenant, keeps=False) if state else None
            async for finding in examine_log(store, given.tenant, outside):
                yield finding
