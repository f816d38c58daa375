"""The looping picture of the README: an incident in which the models disagree, as it looks on a phone.

    python bench/recording.py docs/dissent.webp

It starts `python -m bot sandbox`, opens its page in Chromium at the size of a phone, lets the two models
disagree, makes the payments provider slow, reads the card, trusts theory B, and waits until the shop is well.
Needs playwright (requirements-dev.txt), Pillow (pip install pillow) and a Chromium (CHROMIUM, else
/usr/bin/chromium).
"""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from PIL import Image, ImageChops
from playwright.sync_api import Page, sync_playwright

ROOT = Path(__file__).resolve().parents[1]
CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
SIZE = {"width": 390, "height": 844}
EVERY_S = 0.4
MOST_BYTES = 1_000_000
LONGEST_STILL_S = 1.2
"""How long nothing may happen in the film, however long nothing happened on the phone."""

TO_THE_TOP = "one => {one.scrollIntoView({block: 'start'}); one.closest('#messages').scrollTop -= 40}"


class Camera:
    """Takes frames of *page*, and remembers how long each was to be seen."""

    def __init__(self, page: Page) -> None:
        self._page = page
        self.frames: list[tuple[Image.Image, float]] = []

    def shoot(self, seconds: float = EVERY_S) -> None:
        picture = Image.open(io.BytesIO(self._page.screenshot())).convert("RGB")
        if self.frames and alike(self.frames[-1][0], picture):
            kept, before = self.frames[-1]
            self.frames[-1] = (kept, max(before, min(before + seconds, LONGEST_STILL_S)))
        else:
            self.frames.append((picture, seconds))

    def until(self, selector: str, within_s: float) -> None:
        """Film until *selector* is on the screen."""
        end = time.monotonic() + within_s
        while not self._page.locator(selector).first.is_visible():
            if time.monotonic() > end:
                raise SystemExit(f"{selector} did not come within {within_s} s")
            self.shoot()
            self._page.wait_for_timeout(int(EVERY_S * 1000))
        self.shoot()

    def hold(self, seconds: float) -> None:
        """Let the present picture stand for reading."""
        self.shoot()
        picture, _ = self.frames[-1]
        self.frames[-1] = (picture, seconds)

    def save(self, file: Path) -> None:
        """Write the loop, in the best quality that stays under a megabyte."""
        pictures = [picture for picture, _ in self.frames]
        milliseconds = [int(seconds * 1000) for _, seconds in self.frames]
        for quality in (80, 65, 50, 35):
            pictures[0].save(
                file, save_all=True, append_images=pictures[1:], duration=milliseconds, loop=0,
                quality=quality, method=6,
            )  # fmt: skip
            if file.stat().st_size < MOST_BYTES:
                return
        raise SystemExit(f"{file} has {file.stat().st_size} bytes")


def alike(one: Image.Image, other: Image.Image) -> bool:
    """Whether nothing has changed that a reader would see: a dot may pulse."""
    difference = ImageChops.difference(one, other).convert("L").reduce(8)
    return sum(difference.histogram()[12:]) <= 4


def film(page: Page) -> Camera:
    """The dissent, from a shop that is well to a shop that is well again."""
    camera = Camera(page)
    page.locator(".tabs [data-view=shop]").click()
    page.locator("#models").select_option("dissent")
    page.locator("#faults button[data-fault=payments]").scroll_into_view_if_needed()
    camera.hold(1.5)
    page.locator("#faults button[data-fault=payments]").click()
    page.wait_for_timeout(300)
    camera.hold(1.0)
    page.locator(".tabs [data-view=phone]").click()
    camera.until("#messages :text('checkout')", 30)
    camera.until("button:has-text('Trust theory B')", 30)
    page.locator("#banner").wait_for(state="hidden", timeout=20_000)
    page.locator("#messages b:has-text('Models disagree')").last.evaluate(TO_THE_TOP)
    page.wait_for_timeout(300)
    camera.hold(5.0)
    button = page.locator("button:has-text('Trust theory B')").last
    button.scroll_into_view_if_needed()
    page.wait_for_timeout(300)
    camera.hold(2.0)
    button.click()
    camera.until("#messages :text('recovered')", 120)
    page.wait_for_timeout(500)
    camera.hold(4.0)
    page.locator(".tabs [data-view=ledger]").click()
    page.wait_for_timeout(1500)
    camera.hold(3.0)
    return camera


def main(file: Path) -> None:
    folder = tempfile.mkdtemp(prefix="cs-film-")
    python = os.environ.get("COUNTERSIGN_PYTHON", str(ROOT / ".venv/bin/python"))
    sandbox = subprocess.Popen(
        [python, "-m", "bot", "sandbox"],
        cwd=ROOT,
        env={**os.environ, "DATA_DIR": folder, "SANDBOX_PORT": "8585"},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        url = next(found[1] for line in sandbox.stdout or () if (found := re.search(r"Open (\S+)", line)))
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
            page = browser.new_page(viewport=SIZE)
            page.goto(url)
            page.wait_for_timeout(3000)
            film(page).save(file)
            browser.close()
    finally:
        sandbox.terminate()
        sandbox.wait(30)
    print(f"{file}: {file.stat().st_size} bytes")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "docs/dissent.webp"))
