"""Reads charters: one TOML file a tenant, or a folder of them.

A mistake names file, key, reason and remedy, and the charter that was in force stays in force.
"""

import tomllib
from collections.abc import Collection
from pathlib import Path

from pydantic import ValidationError

from handlers.charter_action import Action as Action
from handlers.charter_check import explained, mistakes
from handlers.charter_kinds import CharterError as CharterError
from handlers.charter_kinds import Mistake as Mistake
from handlers.charter_model import Charter as Charter
from handlers.charter_model import Chat as Chat
from handlers.charter_model import Check as Check
from handlers.charter_model import Limits as Limits
from handlers.charter_model import Person as Person
from handlers.charter_model import Service as Service
from handlers.charter_model import Tenant as Tenant
from handlers.charter_model import commitment as commitment
from handlers.charter_model import prefix_of
from ledger.terms import Quorum as Quorum


def load(path: Path, forbidden_secrets: Collection[str] = ()) -> Charter:
    """The charter in the file *path*. Raises CharterError with every mistake found.

    *forbidden_secrets* are the names that the program's own settings read.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CharterError(
            [
                Mistake(
                    str(path),
                    "file",
                    f"cannot be read ({error})",
                    "Set CHARTER to a file or folder that exists.",
                )
            ]
        ) from None
    return parse(text, str(path), forbidden_secrets)


def parse(text: str, file: str = "charter.toml", forbidden_secrets: Collection[str] = ()) -> Charter:
    """The charter that *text* is. Raises CharterError."""
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise CharterError(
            [Mistake(file, "file", f"is not TOML ({error})", "Mend the line that it names.")]
        ) from None
    try:
        charter = Charter.model_validate(raw)
    except ValidationError as error:
        raise CharterError(explained(file, error)) from None
    wrong = mistakes(file, charter, forbidden_secrets)
    if wrong:
        raise CharterError(wrong)
    return charter


def files(path: Path) -> list[Path]:
    """The charters' files: *path* itself, or those in the folder that it is."""
    return sorted(path.glob("*.toml")) if path.is_dir() else [path]


def load_all(path: Path, forbidden_secrets: Collection[str] = ()) -> dict[str, Charter]:
    """The charters by tenant: *path* is one file, or a folder with one file a tenant. Raises CharterError."""
    found_in = files(path)
    if not found_in:
        raise CharterError(
            [Mistake(str(path), "folder", "holds no charter", "Put one NAME.toml a tenant into it.")]
        )
    found: dict[str, Charter] = {}
    chats: dict[int, str] = {}
    for file in found_in:
        charter = load(file, forbidden_secrets)
        name = charter.tenant.id
        if name in found:
            raise CharterError(
                [Mistake(str(file), "tenant.id", f"{name!r} stands in two files", "Rename one.")]
            )
        for chat in charter.chats:
            if chats.setdefault(chat.telegram, name) != name:
                reason = f"the chat {chat.telegram} is already {chats[chat.telegram]}'s"
                raise CharterError([Mistake(str(file), "chats", reason, "A chat belongs to one tenant.")])
        found[name] = charter
    foreign = [mistake for charter in found.values() for mistake in foreign_secrets(charter, found)]
    if foreign:
        raise CharterError(foreign)
    return found


def foreign_secrets(charter: Charter, tenants: Collection[str]) -> list[Mistake]:
    """The secrets that begin with `ACME_EU_`, in acme's charter, where there is a tenant acme-eu."""
    ours = charter.tenant.id
    return [
        Mistake(ours, f"services.{service.id}", f"the secret {name} is {other}'s", "Name it otherwise.")
        for other in tenants
        if len(other) > len(ours)
        for service in charter.services
        for name in service.secrets
        if name.startswith(prefix_of(other))
    ]
