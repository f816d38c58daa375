"""A person with a phone, in sentences: what they expect to read, tap and type.

    rudo = world.phone("rudo")
    card = await rudo.expects_card("checkout", within=15)
    card.says("Both models agree")
    answer = await rudo.taps("Approve")
    await rudo.expects("recovered")

A sentence that does not come true raises `Unmet`, which shows what the phone showed instead. A card is alive:
it reads as the message reads now. `forgets` makes the person expect only what comes from then on.
"""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from bot.sandbox.chats import Kind, Media, Message
from bot.sandbox.loopback import Bell
from bot.sandbox.telegram import Answer, Telegram
from bot.sandbox.twilio import Text, Twilio

ANSWERED_WITHIN = 5.0


class Unmet(AssertionError):
    """What was expected did not happen."""


@dataclass(frozen=True, slots=True)
class Seen:
    """One message of the bot as it reads now; `at` is when it last changed, `came` when it first came."""

    key: tuple[int | str, ...]
    text: str
    labels: tuple[str, ...]
    rings: bool
    came: float
    at: float

    def shows(self, label: str) -> bool:
        return any(label.lower() in one.lower() for one in self.labels)


class Card:
    """A message that a person looks at; it changes under their eyes when the bot edits it."""

    def __init__(self, phone: "Phone", key: tuple[int | str, ...]) -> None:
        self.phone, self.key = phone, key

    @property
    def now(self) -> Seen:
        """As it reads now; raises Unmet when it is gone."""
        found = next((seen for seen in self.phone.seen() if seen.key == self.key), None)
        if found is None:
            raise Unmet(f"the message {self.key} is gone")
        return found

    @property
    def text(self) -> str:
        return self.now.text

    @property
    def labels(self) -> tuple[str, ...]:
        return self.now.labels

    def says(self, *texts: str) -> "Card":
        """Each of *texts* stands in it."""
        for text in texts:
            if text.lower() not in self.text.lower():
                raise Unmet(f"{text!r} is not in:\n{self.text}")
        return self

    def does_not_say(self, *texts: str) -> "Card":
        for text in texts:
            if text.lower() in self.text.lower():
                raise Unmet(f"{text!r} is in:\n{self.text}")
        return self

    def offers(self, *labels: str) -> "Card":
        """A live button for each of *labels* is under it."""
        for label in labels:
            if not self.now.shows(label):
                raise Unmet(f"there is no button {label!r} among {self.labels}")
        return self

    def offers_nothing(self) -> "Card":
        if self.labels:
            raise Unmet(f"there are buttons: {self.labels}")
        return self

    async def becomes(self, text: str, within: float = 15.0) -> "Card":
        """Sooner or later *text* stands in it."""
        if not await self.phone.bell.until(lambda: text.lower() in self.text.lower(), within):
            raise Unmet(f"within {within:g} s {text!r} did not come into:\n{self.text}")
        return self

    async def comes_to_offer(self, label: str, within: float = 15.0) -> "Card":
        """Sooner or later there is a button *label* under it."""
        if not await self.phone.bell.until(lambda: self.now.shows(label), within):
            raise Unmet(f"within {within:g} s no button {label!r} came under:\n{self.text}")
        return self


class Phone(ABC):
    """One person's phone on one channel."""

    def __init__(self, who: str, bell: Bell) -> None:
        self.who, self.bell = who, bell
        self._since = 0.0

    @abstractmethod
    def seen(self) -> list[Seen]:
        """The bot's messages on this phone, in the order in which they came."""

    @abstractmethod
    async def sends(self, text: str, reply_to: Card | None = None) -> None:
        """Types *text*, perhaps as a reply."""

    @abstractmethod
    def history(self) -> list[str]:
        """Every text of the bot that this phone ever showed, edits included, oldest first."""

    def forgets(self) -> "Phone":
        """From now on only what comes or changes later is expected."""
        self._since = time.monotonic()
        return self

    async def expects(self, text: str, within: float = 15.0) -> Card:
        """Sooner or later a message says *text*; the newest one that does."""
        return await self._finds(lambda seen: text.lower() in seen.text.lower(), f"{text!r}", within)

    async def expects_card(self, text: str, within: float = 15.0) -> Card:
        """Sooner or later a message with buttons says *text*."""
        return await self._finds(
            lambda seen: bool(seen.labels) and text.lower() in seen.text.lower(), f"a card {text!r}", within
        )

    async def expects_button(self, label: str, within: float = 15.0) -> Card:
        """Sooner or later there is a button whose label contains *label*."""
        return await self._finds(lambda seen: seen.shows(label), f"a button {label!r}", within)

    def never_read(self, text: str) -> "Phone":
        """Nothing that the phone ever showed said *text*."""
        said = next((one for one in self.history() if text.lower() in one.lower()), None)
        if said is not None:
            raise Unmet(f"{self.who} did read {text!r}:\n{said}")
        return self

    async def _finds(self, good: Callable[[Seen], bool], what: str, within: float) -> Card:
        def newest() -> Seen | None:
            return next((s for s in reversed(self.seen()) if s.at >= self._since and good(s)), None)

        found = await self.bell.until(newest, within)
        if found is None:
            raise Unmet(f"within {within:g} s {self.who} did not see {what}, but:\n{self.shown()}")
        return Card(self, found.key)

    def shown(self) -> str:
        """The last messages, as a person would read them out."""
        lines = [f"{seen.text}\n   {' | '.join(seen.labels)}".rstrip() for seen in self.seen()[-5:]]
        return "\n--\n".join(lines) or "(nothing)"


@dataclass(frozen=True, slots=True)
class Press:
    """A button as it was once seen: it can be pressed although it is no longer there."""

    phone: "TelegramPhone"
    message: Message
    data: str

    async def again(self) -> Answer:
        """Presses it now, and returns the answer."""
        return await self.phone.presses(self.message, self.data)


class TelegramPhone(Phone):
    """Telegram in somebody's hand: the private chat with the bot and the groups they are in."""

    def __init__(
        self, who: str, user_id: int, telegram: Telegram, chats: Iterable[int] | None = None
    ) -> None:
        super().__init__(who, telegram.chats.bell)
        self.user_id, self.telegram = user_id, telegram
        self._only = None if chats is None else frozenset(chats)

    @property
    def in_private(self) -> "TelegramPhone":
        """The same phone, looking at the private chat alone."""
        return TelegramPhone(self.who, self.user_id, self.telegram, {self.user_id})

    def in_chat(self, chat_id: int) -> "TelegramPhone":
        """The same phone, looking at that chat alone."""
        return TelegramPhone(self.who, self.user_id, self.telegram, {chat_id})

    @property
    def answers(self) -> list[Answer]:
        """What this person's taps were answered, oldest first."""
        return [answer for answer in self.telegram.answers if answer.user_id == self.user_id]

    @property
    def rings(self) -> int:
        """How often this phone has made a sound."""
        places = self._places()
        return sum(h.rings for h in self.telegram.chats.journal if h.chat_id in places)

    def seen(self) -> list[Seen]:
        places, times = self._places(), self._times()
        chats = self.telegram.chats.chats
        messages = (m for place in places for m in chats[place].messages.values() if m.sender.is_bot)
        shown = [_seen(message, *times[message.chat_id, message.id]) for message in messages]
        return sorted(shown, key=lambda seen: seen.came)

    def history(self) -> list[str]:
        places = self._places()
        kinds = {Kind.SENT, Kind.EDITED}
        return [h.text for h in self.telegram.chats.journal if h.kind in kinds and h.chat_id in places]

    async def sends(self, text: str, reply_to: Card | None = None) -> None:
        """Types *text* into the one chat this phone looks at, or into that of the card, else in private."""
        only = next(iter(self._only)) if self._only and len(self._only) == 1 else self.user_id
        place = int(reply_to.key[0]) if reply_to else only
        self.telegram.write(self.user_id, place, text, reply_to=int(reply_to.key[1]) if reply_to else None)

    async def expects_file(self, ending: str, within: float = 15.0) -> Media:
        """Sooner or later a file comes whose name has this *ending*; the newest one."""

        def newest() -> Media | None:
            chats, places = self.telegram.chats.chats, self._places()
            messages = [m for place in places for m in chats[place].messages.values()]
            recent = [m for m in messages if m.media and self._times()[m.chat_id, m.id][1] >= self._since]
            return next(
                (m.media for m in reversed(recent) if m.media and m.media.name.endswith(ending)), None
            )

        found = await self.bell.until(newest, within)
        if found is None:
            raise Unmet(f"within {within:g} s {self.who} got no file {ending!r}, but:\n{self.shown()}")
        return found

    async def expects_picture(self, *texts: str, within: float = 15.0) -> Media:
        """Sooner or later a picture is in a chat whose caption says each of *texts*; the newest one."""

        def newest() -> Media | None:
            chats, places = self.telegram.chats.chats, self._places()
            shown = [m for place in places for m in chats[place].messages.values() if m.media]
            told = [m for m in shown if all(text.lower() in m.text.lower() for text in texts)]
            return next((m.media for m in reversed(told) if m.media and m.media.kind == "photo"), None)

        found = await self.bell.until(newest, within)
        if found is None:
            raise Unmet(f"within {within:g} s {self.who} saw no picture {texts!r}, but:\n{self.shown()}")
        return found

    async def opens(self, code: str = "") -> None:
        """Opens the bot, perhaps by a link with a *code*."""
        self.telegram.write(self.user_id, self.user_id, f"/start {code}".strip())

    async def taps(self, label: str, within: float = 15.0) -> Answer:
        """Waits for a button *label*, presses it, and returns the answer; raises Unmet without one."""
        card = await self.expects_button(label, within)
        return await self.sees(label, card).again()

    def sees(self, label: str, card: Card | None = None) -> Press:
        """The newest button *label* as it is now, to be pressed later; raises Unmet when there is none."""
        shown = (s for s in reversed(self.seen()) if s.shows(label) and (card is None or s.key == card.key))
        found = next(shown, None)
        if found is None:
            raise Unmet(f"{self.who} sees no button {label!r}, but:\n{self.shown()}")
        message = self.telegram.chats.chats[int(found.key[0])].messages[int(found.key[1])]
        button = next(b for b in message.buttons() if label.lower() in b["text"].lower())
        return Press(self, message, str(button.get("callback_data", "")))

    async def presses(self, message: Message, data: str, within: float = ANSWERED_WITHIN) -> Answer:
        """Presses a button with *data* under *message*, true or forged, and returns the answer."""
        query = self.telegram.tap(self.user_id, message, data)
        answer = await self.bell.until(lambda: query.answer, within)
        if answer is None:
            raise Unmet(f"within {within:g} s the tap of {self.who} on {data!r} was not answered")
        return answer

    def _places(self) -> set[int]:
        mine = {chat.id for chat in self.telegram.chats.seen_by(self.user_id)}
        return mine if self._only is None else mine & self._only

    def _times(self) -> dict[tuple[int, int], tuple[float, float]]:
        times: dict[tuple[int, int], tuple[float, float]] = {}
        for h in self.telegram.chats.journal:
            if h.message_id and h.kind is not Kind.TAPPED:
                came = times.get((h.chat_id, h.message_id), (h.at, h.at))[0]
                times[h.chat_id, h.message_id] = (came, h.at)
        return times


def _seen(message: Message, came: float, at: float) -> Seen:
    labels = tuple(str(button["text"]) for button in message.buttons())
    return Seen((message.chat_id, message.id), message.text, labels, not message.silent, came, at)


class WhatsAppPhone(Phone):
    """WhatsApp in somebody's hand. A tap is answered by a message, if at all: there are no toasts."""

    def __init__(self, who: str, number: str, twilio: Twilio) -> None:
        super().__init__(who, twilio.bell)
        self.number, self.twilio = number, twilio

    def seen(self) -> list[Seen]:
        return [_read(text) for text in self.texts()]

    def texts(self) -> list[Text]:
        """What reached this phone: nothing that failed on its way."""
        mine = (t for t in self.twilio.texts.values() if t.number == self.number and not t.inbound)
        return [text for text in mine if text.status in {"delivered", "read"}]

    def history(self) -> list[str]:
        return [text.body for text in self.texts()]

    async def sends(self, text: str, reply_to: Card | None = None) -> None:
        """Types *text*, perhaps by swiping on a card."""
        await self.twilio.say(self.number, text, self._text(reply_to) if reply_to else None)

    async def taps(self, label: str, within: float = 15.0) -> None:
        """Waits for a quick reply *label* and presses it."""
        card = await self.expects_button(label, within)
        title = next(one for one in card.labels if label.lower() in one.lower())
        await self.twilio.tap(self.number, self._text(card), title)

    def _text(self, card: Card) -> Text:
        return self.twilio.texts[str(card.key[0])]


def _read(text: Text) -> Seen:
    at = text.trail[-1][0] if text.trail else text.at
    return Seen((text.sid,), text.body, tuple(b.title for b in text.buttons), True, text.at, at)
