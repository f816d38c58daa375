"""What Telegram remembers: people, chats, messages, and a journal of all that happened to them.

Nothing here speaks HTTP. A message knows whether it rang; an edit never does.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from bot.sandbox.loopback import Bell, epoch, first_id
from bot.sandbox.markup import Entity

type Json = dict[str, Any]
type Keyboard = list[list[Json]]

ANONYMOUS = 1087968824  # GroupAnonymousBot: who posts when a group's admin hides
SUPERGROUPS = -1_000_000_000_000  # ids of supergroups lie below this


class Refused(Exception):
    """What Telegram answers instead of a result."""

    def __init__(self, description: str, code: int = 400, **parameters: int) -> None:
        super().__init__(description)
        self.code, self.description, self.parameters = code, description, parameters

    def body(self) -> Json:
        body: Json = {"ok": False, "error_code": self.code, "description": self.description}
        return body | ({"parameters": self.parameters} if self.parameters else {})


class Kind(StrEnum):
    SENT = "sent"
    EDITED = "edited"
    KEYBOARD = "keyboard"
    DELETED = "deleted"
    ANSWERED = "answered"
    TAPPED = "tapped"
    TYPED = "typed"
    PINNED = "pinned"


@dataclass(frozen=True, slots=True)
class User:
    id: int
    name: str
    username: str = ""
    language: str = "en"
    is_bot: bool = False

    def json(self) -> Json:
        body: Json = {"id": self.id, "is_bot": self.is_bot, "first_name": self.name}
        if self.username:
            body["username"] = self.username
        return body if self.is_bot else body | {"language_code": self.language}


@dataclass(frozen=True, slots=True)
class Media:
    """A file that came with a message; `kind` is photo or document, `size` a photo's width and height.

    *unique* tells this upload from every other, also of the same bytes.
    """

    kind: str
    name: str
    content: bytes
    type: str
    size: tuple[int, int] = (0, 0)
    unique: str = ""

    @property
    def id(self) -> str:
        """What sends it again."""
        return f"{self.kind}-{self.unique}"

    def json(self) -> Json:
        about: Json = {"file_id": self.id, "file_unique_id": self.unique, "file_size": len(self.content)}
        if self.kind == "photo":
            return {"photo": [about | {"width": self.size[0], "height": self.size[1]}]}
        return {"document": about | {"file_name": self.name, "mime_type": self.type}}


@dataclass(frozen=True, slots=True)
class Message:
    id: int
    chat_id: int
    sender: User
    text: str
    date: int
    entities: list[Entity] = field(default_factory=list)
    keyboard: Keyboard = field(default_factory=list)
    silent: bool = False
    thread: int | None = None
    reply_to: int | None = None
    media: Media | None = None
    edited: int | None = None
    anonymous: bool = False

    def buttons(self) -> list[Json]:
        return [button for row in self.keyboard for button in row]


@dataclass(slots=True)
class Chat:
    """A private chat (its id is the person's), a group or a supergroup."""

    id: int
    title: str
    members: set[int]
    opened: bool = True
    blocked: bool = False
    migrated_to: int | None = None
    topics: set[int] = field(default_factory=set)
    messages: dict[int, Message] = field(default_factory=dict)
    pinned: int | None = None

    @property
    def kind(self) -> str:
        if self.id > 0:
            return "private"
        return "group" if self.id > SUPERGROUPS else "supergroup"

    def json(self) -> Json:
        title = {"first_name": self.title} if self.kind == "private" else {"title": self.title}
        return {"id": self.id, "type": self.kind, **title}


@dataclass(frozen=True, slots=True)
class Happening:
    """One line of the journal; `at` is monotonic seconds."""

    at: float
    kind: Kind
    chat_id: int
    message_id: int = 0
    text: str = ""
    silent: bool = False
    who: int = 0
    alert: bool = False

    @property
    def rings(self) -> bool:
        return self.kind is Kind.SENT and not self.silent


class Chats:
    """People, chats and the journal; every change rings the bell."""

    def __init__(self, bot: User) -> None:
        self.bot = bot
        self.users: dict[int, User] = {}
        self.chats: dict[int, Chat] = {}
        self.journal: list[Happening] = []
        self._first_id = first_id()
        self.bell = Bell()

    def add_person(self, user: User, *, opened: bool = True) -> Chat:
        """A person and the private chat with the bot; not *opened* means that they never pressed Start."""
        self.users[user.id] = user
        self.chats[user.id] = Chat(user.id, user.name, {user.id}, opened=opened)
        return self.chats[user.id]

    def add_group(self, chat_id: int, title: str, members: set[int], topics: set[int] | None = None) -> Chat:
        self.chats[chat_id] = Chat(chat_id, title, set(members), topics=topics or set())
        return self.chats[chat_id]

    def note(self, kind: Kind, chat_id: int, message_id: int = 0, text: str = "", **more: Any) -> None:
        self.journal.append(Happening(time.monotonic(), kind, chat_id, message_id, text, **more))
        self.bell.ring()

    def reachable(self, chat_id: int) -> Chat:
        """The chat, if the bot may write to it; raises Refused with Telegram's reason."""
        chat = self.chats.get(chat_id)
        if chat is None:
            raise Refused("Bad Request: chat not found")
        if chat.migrated_to is not None:
            raise Refused(
                "Bad Request: group chat was upgraded to a supergroup chat",
                migrate_to_chat_id=chat.migrated_to,
            )
        if chat.blocked:
            why = "bot was blocked by the user" if chat.id > 0 else "bot was kicked from the group chat"
            raise Refused(f"Forbidden: {why}", 403)
        if not chat.opened:
            raise Refused("Forbidden: bot can't initiate conversation with a user", 403)
        return chat

    def post(self, chat: Chat, sender: User, text: str, **more: Any) -> Message:
        """A new message in *chat*."""
        message = Message(
            max(chat.messages, default=self._first_id) + 1, chat.id, sender, text, epoch(), **more
        )
        chat.messages[message.id] = message
        kind = Kind.SENT if sender.is_bot else Kind.TYPED
        self.note(kind, chat.id, message.id, text, silent=message.silent, who=sender.id)
        return message

    def change(self, message: Message, kind: Kind, **changes: Any) -> Message:
        changed = replace(message, edited=epoch(), **changes)
        self.chats[message.chat_id].messages[message.id] = changed
        self.note(kind, message.chat_id, message.id, changed.text)
        return changed

    def migrate(self, chat_id: int, to: int) -> Chat:
        """Turns a group into the supergroup *to*; what is sent to the old id is refused with the new one."""
        old = self.chats[chat_id]
        new = self.add_group(to, old.title, old.members)
        old.migrated_to = to
        self.bell.ring()
        return new

    def seen_by(self, user_id: int) -> Iterator[Chat]:
        return (chat for chat in self.chats.values() if user_id in chat.members)

    def message_json(self, message: Message, *, deep: bool = True) -> Json:
        """The Message object of the Bot API."""
        chat = self.chats[message.chat_id]
        body: Json = {"message_id": message.id, "date": message.date, "chat": chat.json()}
        body |= self._sender(message, chat)
        body |= self._content(message)
        if message.edited:
            body["edit_date"] = message.edited
        if message.keyboard:
            body["reply_markup"] = {"inline_keyboard": message.keyboard}
        if message.thread is not None:
            body |= {"message_thread_id": message.thread, "is_topic_message": True}
        if deep and message.reply_to in chat.messages:
            body["reply_to_message"] = self.message_json(chat.messages[message.reply_to], deep=False)
        return body

    @staticmethod
    def _sender(message: Message, chat: Chat) -> Json:
        if message.anonymous:
            return {
                "from": User(ANONYMOUS, "Group", "GroupAnonymousBot", is_bot=True).json(),
                "sender_chat": chat.json(),
            }
        return {"from": message.sender.json()}

    @staticmethod
    def _content(message: Message) -> Json:
        if message.media:
            body = message.media.json()
            text, entities = "caption", "caption_entities"
        else:
            body, text, entities = {}, "text", "entities"
        if message.text:
            body[text] = message.text
        if message.entities:
            body[entities] = message.entities
        return body
