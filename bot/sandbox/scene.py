"""What a play can see and do: people's phones, the shop's dials, and what reached the recovery endpoint."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bot.sandbox.phone import TelegramPhone, Unmet
from bot.sandbox.stage import Stage
from bot.sandbox.world import GROUP

NO_RUN = "Nothing will run without your approval"
CARD_S, ASK_S, RUN_S, END_S = 25.0, 16.0, 10.0, 40.0


@dataclass(frozen=True, slots=True)
class Scene:
    """What a play can see and do. `tell` is its log: who did or saw what."""

    stage: Stage
    tell: Callable[[str, str], None]

    def phone(self, who: str) -> TelegramPhone:
        """Somebody's phone, looking at the group's chat."""
        return self.stage.world.phone(who).in_chat(GROUP)

    async def breaks(self, what: str, **faults: Any) -> None:
        self.tell("shop", what)
        await self.stage.world.shop.faults(**faults)

    async def taps(self, who: str, label: str, within: float = ASK_S) -> str:
        """*who* waits for a button and taps it; the answer."""
        answer = await self.phone(who).taps(label, within)
        self.tell(who, f"taps {label}")
        self.tell("bot", f"answers: {answer.text}")
        return answer.text

    async def runs(self) -> Sequence[Mapping[str, Any]]:
        """What reached the recovery endpoint."""
        return await self.stage.world.shop.hooks()

    async def ran_once(self, action: str) -> None:
        hooks = [hook for hook in await self.runs() if hook["status"] == 200]
        keys = {hook["key"] for hook in hooks}
        if len(keys) != 1 or {hook["action"] for hook in hooks} != {action}:
            raise Unmet(f"{action} should have run once, but the endpoint saw {await self.runs()}")
        self.tell("shop", f"{action} ran once")

    async def ran_nothing(self) -> None:
        if hooks := await self.runs():
            raise Unmet(f"nothing should have run, but the endpoint saw {hooks}")
        self.tell("shop", "nothing ran")


def answered(text: str, *words: str) -> None:
    for word in words:
        if word.lower() not in text.lower():
            raise Unmet(f"the answer {text!r} does not say {word!r}")
