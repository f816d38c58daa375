"""`python -m ledger acl`: the users that the server should have, for its kind and version. It sets none."""

import argparse

from ledger import acl
from ledger.commands.place import add_place, opened
from ledger.verify import Unreadable

NAME = "acl"
HELP = "the users that the server should have, for its kind and version"
BEFORE = """\
# Users of a ledger on {kind} {version}. An administrator sends these, with a password of its own in the
# place of each PASSWORD (a long one: `openssl rand -hex 32`), or the same words after `user` in an ACL file.
# Here they are as text: send them with redis-cli or valkey-cli, not with a shell that takes > for a file.
"""
AFTER = """\
# Then: REDIS_URL=redis://app:…@host/0 and REDIS_DEPLOY_URL=redis://deploy:…@host/0 for the release. The
# other addresses belong to people (--redis of `python -m ledger`) and never into the bot's environment.
# See that it holds: python -m ledger doctor --redis redis://app:…@host/0 --deploy redis://deploy:…@host/0
# Last, once you yourself enter with a name that may do everything: ACL SETUSER {default}
# Nobody enters as it then. It keeps its rights, for many a server reads its own log again as that user, and
# without them loses each batch when it restarts.
# Set no requirepass: CONFIG GET, which tells the app how durable the server is, would show it.
"""
EMBEDDED = """\
# The embedded server has them already, and nobody else but `owner`, who has the folder. Their passwords
# follow from {folder}/valkey.secret, which only its owner may read.
"""


def configure(parser: argparse.ArgumentParser) -> None:
    add_place(parser, required=False)
    parser.add_argument("--server", help="instead of asking one: valkey-9 or redis-7.0, for instance")


async def run(given: argparse.Namespace) -> int:
    server = await _server(given)
    print(BEFORE.format(kind=server.kind, version=".".join(map(str, server.version))))
    for user, command in zip(acl.USERS, acl.commands(server), strict=True):
        print(f"# {user.name}: {user.purpose}\n{command}\n")
    print(
        EMBEDDED.format(folder=given.data_dir) if given.data_dir else AFTER.format(default=acl.DEFAULT),
        end="",
    )
    return 0


async def _server(given: argparse.Namespace) -> acl.Server:
    try:
        if given.server:
            return acl.Server.parse(given.server)
        if not (given.redis or given.data_dir):
            raise Unreadable("Name the server: --server valkey-9, or where it is with --redis or --data-dir.")
        async with opened(given) as store:
            return acl.Server.told(await store.commands("HELLO"))
    except ValueError as error:
        raise Unreadable(str(error)) from None
