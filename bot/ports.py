"""What chat is made of: addresses, cards, taps and answers, the same for every channel.

A channel is one vertical slice. It sends what it is given and turns what arrives into a `Tap` or a `Said`.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol, runtime_checkable

from ledger.events import Act, Ref


class Verb(StrEnum):
    """What a button, a reply or a command asks for. The value stands in the button's data."""

    APPROVE = "ap"
    DENY = "dn"
    ACK = "ak"
    NOT_INCIDENT = "ni"
    ASK_AGAIN = "aa"
    ESCALATE = "es"
    AUDIT = "au"
    CAUSE_RIGHT = "cr"
    CAUSE_WRONG = "cw"
    ADOPT = "ad"
    RESOLVE = "rs"
    CONFIRM = "cf"
    WITHDRAW = "wd"
    BREAK_GLASS = "bg"
    NEW_NORMAL = "nn"


class Ring(StrEnum):
    """How a card reaches people. RING: a new message with sound. QUIET: new, silent. EDIT: in place."""

    RING = "ring"
    QUIET = "quiet"
    EDIT = "edit"


@dataclass(frozen=True, slots=True)
class Address:
    """Where a card goes: a channel and its vendor's id. *recipient* is what the ledger calls it: a person's
    charter id, or chat1, chat2, … for the charter's chats. *person* is empty for a group."""

    channel: str
    to: str
    recipient: str
    person: str = ""
    topic: int | None = None


@dataclass(frozen=True, slots=True)
class Button:
    """A choice. *anchor* is the hash of the entry that it is about: of the Validated one for votes."""

    verb: Verb
    label: str
    anchor: str
    option: str = ""
    style: str = ""


@dataclass(frozen=True, slots=True)
class Card:
    """One message about one incident for one reader, as it should stand now.

    *revision* is the seq of the newest fact that shows on it; *sounded* the seq of the newest fact for which
    a new message is due, and *ring* how that message arrives. *html* uses b, i, code alone and is escaped;
    *plain* is the same without them. *template* and *variables* are the WhatsApp template of this moment.
    """

    incident: str
    revision: int
    sounded: int
    ring: Ring
    html: str
    plain: str
    rows: tuple[tuple[Button, ...], ...] = ()
    template: str = ""
    variables: tuple[str, ...] = ()
    sms: str = ""


@dataclass(frozen=True, slots=True)
class Tap:
    """A choice that arrived. *anchor* is what its token names; *genuine* whether its MAC is ours.

    *person* is the charter id that a link was made for, once its signature was verified: only `bot/pages.py`
    sets it. Everywhere else who taps is found by *vendor_id*. *card* is the SHA-256 of what the person had
    before them, where whoever made the tap knows it; *code* are the digits of a second factor, if any came.
    """

    channel: str
    vendor_id: str
    chat: str
    verb: Verb
    anchor: str
    act: Act
    option: str = ""
    genuine: bool = True
    words: str = ""
    private: bool = False
    confirmed: bool = False
    person: str = ""
    card: str = ""
    code: str = ""


@dataclass(frozen=True, slots=True)
class Said:
    """A message that a person typed: a command with its arguments, or free words."""

    channel: str
    vendor_id: str
    chat: str
    text: str
    act: Act
    private: bool = False
    name: str = ""
    reply_to: str = ""


@dataclass(frozen=True, slots=True)
class Document:
    """A file for whoever asked. *caption* says what it is and carries the receipt of its entry."""

    name: str
    content: bytes
    caption: str = ""


@dataclass(frozen=True, slots=True)
class Picture:
    """A small PNG. *alt* says the same in one sentence, for who cannot see or load it."""

    png: bytes
    alt: str


@dataclass(frozen=True, slots=True)
class Answer:
    """What the person is told. At most 200 characters where it answers a tap; *alert* asks for a box.

    *asks* is the conversation in which the person goes on with the same wish. *picture* comes after the
    words; where none can be shown, its sentence does.
    """

    text: str
    alert: bool = True
    ref: Ref | None = None
    html: str = ""
    rows: tuple[tuple[Button, ...], ...] = ()
    documents: tuple[Document, ...] = ()
    asks: str = ""
    picture: Picture | None = None


class SendError(Exception):
    """The vendor did not take it. `permanent`: this address will not take it. `retry_after_s`: wait so long.

    `moved_to`: the chat has a new id. `gone`: the message to be edited is not there any more.
    `unknown`: it may have been sent.
    """

    def __init__(
        self,
        message: str,
        *,
        permanent: bool = False,
        retry_after_s: float = 0.0,
        moved_to: str = "",
        gone: bool = False,
        unknown: bool = False,
    ) -> None:
        super().__init__(message)
        self.permanent = permanent
        self.retry_after_s = retry_after_s
        self.moved_to = moved_to
        self.gone = gone
        self.unknown = unknown


class Channel(Protocol):
    """One way to reach people. `edits`: whether a sent message can be changed."""

    name: str
    edits: bool

    async def send(
        self, tenant: str, to: Address, card: Card, *, reply_to: str = "", silent: bool = False
    ) -> str:
        """Send *card* as a new message; returns its id. Raises SendError."""

    async def edit(self, tenant: str, to: Address, message: str, card: Card) -> None:
        """Make the message show *card*. The same again is no error. Raises SendError."""

    async def retire(self, tenant: str, to: Address, message: str) -> None:
        """Take the buttons from an old message. Raises SendError."""

    async def say(self, tenant: str, to: Address, answer: Answer, *, reply_to: str = "") -> str:
        """Send plain words, an answer to a command for example. Raises SendError."""

    async def hand(self, tenant: str, to: Address, document: Document, *, reply_to: str = "") -> str:
        """Send a file, in one message of its own. Raises SendError, permanent where files cannot go."""


@runtime_checkable
class Gallery(Protocol):
    """A channel that shows pictures, and changes one that it showed."""

    async def show(self, to: Address, picture: Picture, *, reply_to: str = "", message: str = "") -> str:
        """Show *picture* in a silent message of its own, or in *message*, which showed another; returns the
        message's id. The same again is no error. Raises SendError."""


class Desk(Protocol):
    """The one place that decides what an act means, for every channel (bot/answer.py, bot/commands.py)."""

    async def tapped(self, tenant: str, tap: Tap) -> Answer: ...

    async def said(self, tenant: str, said: Said) -> Answer | None:
        """None where words are not for us."""
