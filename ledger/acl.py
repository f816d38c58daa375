"""Who may do what on the server: its users, as text for the server that is there (the Redis ACL).

* Nothing is allowed that a process does not send. To a log, the app may append and may read, and that is all:
  no command that it has can take an element away, change one, or give the key an end.
* Scripts and FUNCTIONs run with the rights of who calls them, so an evil one can do no more than its caller.
* What the app could still do, somebody notices: an element that is not ours seals the ledger, a checkpoint
  put back does not sign the log that is there, a text is asked for by its digest and written only once.
* `bot:*` is the app's own. It is no evidence.
* A password is never here: the text has a place for it, or its SHA-256.

Selectors and `%R~` are Redis 7's. Docs: https://valkey.io/topics/acl/
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256

PLACE = ">PASSWORD"
SINCE = {"client|setinfo": {"redis": (7, 2)}, "waitaof": {"redis": (7, 2)}}
"""Commands that a server may lack, by its kind and first version. Naming one that it lacks is an error."""

_GREET = "+ping +hello +client|setinfo +client|setname +acl|whoami"
_READ = (
    "%R~led:*:log:* +llen +lindex +lrange",
    "%R~led:*:ckpt %R~led:*:cosigned %R~led:*:archived +get",
    "%R~led:*:ckpts +lrange",
    "%R~led:*:texts +hget",
)
_APPEND = (
    "~led:*:log:* +rpush +llen +lindex +lrange",
    "~led:*:ckpt +get +set",
    "~led:*:ckpts +rpush +lrange",
)
_OWN = (
    "~bot:* +@string +@hash +@list +@set +@sortedset +@stream -@dangerous "
    "+del +unlink +exists +type +expire +pexpire +ttl +pttl +eval +waitaof"
)
_APPENDER = f"{_GREET} +role +wait +config|get +function|list +fcall ~led:* +publish &led:changes"


@dataclass(frozen=True, slots=True)
class Server:
    """What kind of server it is, and its version, as far as rights depend on it."""

    kind: str
    version: tuple[int, ...]

    @classmethod
    def parse(cls, text: str) -> "Server":
        """As `valkey-9` or `redis-7.0.15` says. Raises ValueError with a sentence."""
        found = re.fullmatch(r"(valkey|redis)-(\d+(?:\.\d+)*)", text)
        if not found:
            raise ValueError(f"{text!r} is no server: say valkey-9 or redis-7.0, for instance.")
        version = tuple(map(int, found[2].split(".")))
        if version < (7,):
            raise ValueError(f"{text} cannot give rights by key and command: Redis 7 or Valkey can.")
        return cls(found[1], version)

    @classmethod
    def told(cls, hello: Sequence[bytes]) -> "Server":
        """As it answers HELLO. Raises ValueError with a sentence."""
        says = dict(zip(hello[::2], hello[1::2], strict=True))
        version = re.match(rb"[\d.]*\d", says[b"version"])
        return cls.parse(f"{says[b'server'].decode()}-{version[0].decode() if version else '?'}")

    def has(self, command: str) -> bool:
        return self.version >= SINCE.get(command, {}).get(self.kind, ())


@dataclass(frozen=True, slots=True)
class User:
    """Its name, what it is for, its rights, and further ones that hold for the named keys alone."""

    name: str
    purpose: str
    rights: str
    selectors: tuple[str, ...] = ()

    def rules(self, server: Server, password: str = PLACE) -> str:
        """The words of ACL SETUSER, from nothing: what the user could do before is gone."""
        rights = [_there(server, self.rights), *(f"({_there(server, one)})" for one in self.selectors)]
        return " ".join([self.name, "reset", "on", password, "-@all", *rights])


USERS = (
    User(
        "app",
        "the bot: appends and reads, and keeps its own things under bot:*",
        f"{_APPENDER} +time +subscribe +unsubscribe",
        (
            *_APPEND,
            "%R~led:*:archived +get",
            "~led:*:cosigned +get +set",
            "~led:*:texts +hget +hsetnx",
            "~led:*:vault +hget +hsetnx +hdel",
            _OWN,
        ),
    ),
    User("auditor", "reads, and not what people typed", f"{_GREET} +role +config|get", _READ),
    User(
        "archiver",
        "takes away whole segments that an Archived entry names",
        _APPENDER,
        (*_APPEND, "~led:*:log:* +del +unlink", "~led:*:archived +get +set", "%R~led:*:texts +hget"),
    ),
    User(
        "privacy",
        "takes away what an Erased entry names of what people typed",
        f"{_APPENDER} +bgrewriteaof",
        (*_APPEND, "%R~led:*:texts +hget", "~led:*:vault +hget +hexists +hdel", "%R~led:*:archived +get"),
    ),
    User(
        "deploy",
        "loads the FUNCTION, and can say what the app may not do",
        f"{_GREET} +config|get +function|load +function|list +acl|dryrun",
    ),
)
DEFAULT = "default off ~* &* +@all"
OWNER = User("owner", "whoever has the folder of an embedded server", "~* &* +@all")


def commands(server: Server, password: str = PLACE) -> list[str]:
    """What an administrator sends to *server*, a command a user. None of them locks anybody out."""
    return [f"ACL SETUSER {user.rules(server, password)}" for user in USERS]


def file(server: Server, passwords: Mapping[str, str]) -> str:
    """The ACL file of a server of ours alone: only who is in *passwords* may enter, and `default` may not.

    `default` keeps its rights, for a server that starts again reads its log as that user: without them, Redis
    and many a Valkey pass over each batch, in silence (https://github.com/valkey-io/valkey/issues/3983).
    """
    known = [user for user in (*USERS, OWNER) if user.name in passwords]
    rows = [f"user {user.rules(server, digest(passwords[user.name]))}" for user in known]
    return "\n".join([f"user {DEFAULT}", *rows, ""])


def digest(password: str) -> str:
    """A password as a server keeps it, and as anybody may read it who cannot guess the password."""
    return f"#{sha256(password.encode()).hexdigest()}"


def _there(server: Server, rights: str) -> str:
    return " ".join(word for word in rights.split() if server.has(word.removeprefix("+")))


def names(users: Sequence[User] = USERS) -> list[str]:
    return [user.name for user in users]
