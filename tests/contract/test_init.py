"""From a bot token and a health address to one's own phone: `init`, then the program, then the link in it."""

import asyncio
import re
import signal
import stat
import sys
from pathlib import Path

import pytest

from bot.doctor import doctor
from bot.init import CannotBegin, Wishes, init, local_timezone
from bot.roster import console_code
from bot.sandbox.phone import TelegramPhone
from bot.sandbox.stage import INHERITED
from bot.settings import environment, kept_in, process_environment, read
from handlers.charter import load
from tests.contract.operator import ME, TOKEN, a_place

ROOT = Path(__file__).parents[2]
CODE = re.compile(r"https://t\.me/countersign_sandbox_bot\?start=([A-Z2-7]{12})")


@pytest.fixture
async def place():
    async with a_place() as place:
        (place.folder / "charter.toml").unlink()
        yield place


def wishes(place, **changes) -> Wishes:
    good = {
        "token": TOKEN,
        "health_url": place.health_url,
        "api_base": place.telegram.url,
        "name": "checkout",
    }
    return Wishes(place.folder, **(good | changes))


def nobody(question: str) -> str:
    raise AssertionError(f"It asked: {question}")


def files(place) -> dict[str, str]:
    return {file.name: file.read_text() for file in place.folder.iterdir() if file.is_file()}


async def test_it_shows_what_it_sees_and_prints_the_link(place):
    await init(wishes(place), nobody, place.say)
    assert "Telegram knows this bot: @countersign_sandbox_bot." in place.told
    assert "checkout answers. Score 100/100, 10.0 requests a second, 0 % errors" in place.told
    assert "Routes: POST /pay (50)." in place.told
    assert "start: python -m bot" in place.told
    secret = kept_in(place.folder / ".env")["ALERT_SECRET"].encode()
    assert CODE.search(place.told)[1] == console_code(secret, "home")


async def test_what_it_writes_is_good_settings_and_a_good_charter(place):
    await init(wishes(place), nobody, place.say)
    kept = kept_in(place.folder / ".env")
    settings = read(kept)
    assert settings.telegram.token == TOKEN
    assert settings.telegram.secret == kept["TELEGRAM_WEBHOOK_SECRET"]
    assert str(settings.charter) == "charter.toml"
    made = [kept[name] for name in ("ALERT_SECRET", "LEDGER_KEY", "TELEGRAM_WEBHOOK_SECRET")]
    assert len(set(made)) == 3
    assert min(map(len, made)) >= 32
    charter = load(place.folder / "charter.toml", kept)
    [me] = charter.people
    assert (me.id, me.roles, me.telegram) == ("me", ("oncall", "dev", "admin"), None)
    [service] = charter.services
    assert (service.id, service.health_url, service.actions) == ("checkout", place.health_url, ())
    assert charter.tenant.allow_networks == ("127.0.0.0/8",)


async def test_the_secrets_are_for_their_owner_alone(place):
    (place.folder / ".env").write_text("OTHER='kept'\n")
    (place.folder / ".env").chmod(0o644)
    await init(wishes(place, force=True), nobody, place.say)
    assert stat.S_IMODE((place.folder / ".env").stat().st_mode) == 0o600
    secrets = kept_in(place.folder / ".env")
    assert secrets["OTHER"] == "kept"
    assert not [secret for secret in secrets.values() if len(secret) > 30 and secret in place.told]


async def test_a_webhook_makes_the_first_action_and_its_secret(place):
    await init(wishes(place, webhook="https://ops.example.com/recover/restart"), nobody, place.say)
    [action] = load(place.folder / "charter.toml").services[0].actions
    assert (action.webhook, action.approve, action.default) == (
        "https://ops.example.com/recover/restart",
        "1 oncall",
        True,
    )
    assert len(kept_in(place.folder / ".env")[action.secret_env]) >= 32


async def test_the_commented_action_is_a_good_one_once_its_marks_are_gone(place):
    await init(wishes(place), nobody, place.say)
    file = place.folder / "charter.toml"
    head, mark, tail = file.read_text().partition("# [[services.actions]]")
    assert mark
    file.write_text(head + "\n".join(line.removeprefix("# ") for line in (mark + tail).splitlines()))
    assert load(file).services[0].actions[0].secret_env == "HOME_CHECKOUT_RECOVERY"


async def test_what_exists_is_not_overwritten_without_force(place):
    await init(wishes(place), nobody, place.say)
    before = files(place)
    with pytest.raises(
        CannotBegin, match=r"\.env and charter\.toml are in .* already, and nothing was changed"
    ):
        await init(wishes(place, name="other"), nobody, place.say)
    assert files(place) == before


async def test_force_keeps_the_secrets_that_the_ledger_knows(place):
    await init(wishes(place), nobody, place.say)
    before, code = kept_in(place.folder / ".env"), CODE.search(place.told)[1]
    place.said.clear()
    await init(wishes(place, name="payments", force=True), nobody, place.say)
    assert kept_in(place.folder / ".env") == before
    assert CODE.search(place.told)[1] == code
    assert load(place.folder / "charter.toml").services[0].id == "payments"


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"token": "1:wrong"}, "does not take this token .* Copy it again from @BotFather"),
        ({"token": "no token at all"}, "does not take this token"),
        ({"api_base": "http://127.0.0.1:9"}, "Is this machine online"),
        ({"name": "Check out"}, "that would be no charter"),
        ({"health_url": "checkout.example.com"}, "health_url"),
        ({"timezone": "Harare"}, "no time zone"),
        ({"name": 'x"\n[evil]\n'}, "that would be no charter"),
    ],
)
async def test_nothing_is_written_for_what_cannot_be(place, changes, says):
    with pytest.raises(CannotBegin, match=says):
        await init(wishes(place, **changes), nobody, place.say)
    assert files(place) == {}


async def test_what_was_not_given_is_asked_for(place):
    answers = iter([f" {TOKEN} ", f" {place.health_url}\n"])
    asked = []

    def ask(question: str) -> str:
        asked.append(question)
        return next(answers)

    await init(wishes(place, token="", health_url=""), ask, place.say)
    assert "@BotFather" in asked[0]
    assert "Health address" in asked[1]
    assert load(place.folder / "charter.toml").services[0].health_url == place.health_url


async def test_an_app_that_does_not_answer_yet_is_written_down_and_said(place):
    await place.app.close()
    await init(wishes(place), nobody, place.say)
    assert "checkout could not be reached" in place.told
    assert CODE.search(place.told)


def test_this_machines_timezone_goes_by_its_name_or_is_utc(tmp_path):
    (tmp_path / "zoneinfo" / "Africa").mkdir(parents=True)
    harare = tmp_path / "zoneinfo" / "Africa" / "Harare"
    harare.touch()
    (tmp_path / "localtime").symlink_to(harare)
    assert local_timezone(tmp_path / "localtime") == "Africa/Harare"
    assert local_timezone(harare.parent) == "UTC"


async def test_from_init_to_the_phone_of_the_first_admin(place):
    """The commands as they are typed, in a folder of one's own; a second person comes too late."""
    around = {name: value for name, value in process_environment().items() if name in INHERITED}
    around |= {"PYTHONPATH": str(ROOT), "TELEGRAM_API_BASE": place.telegram.url, "PYTHONUNBUFFERED": "1"}

    async def starts(*arguments: str) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            sys.executable, "-m", "bot", *arguments,
            env=around, cwd=place.folder,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip

    asked = ("init", "--token", TOKEN, "--health-url", place.health_url, "--name", "checkout")
    first = await starts(*asked)
    said, _ = await first.communicate()
    assert first.returncode == 0, said
    code = CODE.search(said.decode())[1]
    again = await starts(*asked)
    said, _ = await again.communicate()
    assert (again.returncode, b"--force" in said) == (1, True)
    (place.folder / ".env").write_text((place.folder / ".env").read_text() + "PORT='0'\nHOST='127.0.0.1'\n")

    program = await starts()
    try:
        me = TelegramPhone("me", ME, place.telegram).in_private
        await me.opens(code)
        card = await me.expects("Charter in force", within=30)
        card.says("Watching checkout.")
        rudo = TelegramPhone("rudo", 1001, place.telegram).in_private
        await rudo.opens(code)
        await rudo.expects("used already")
        await me.sends("/whoami")
        await me.expects("You are Me (me): oncall, dev, admin.")
        told = environment(place.folder) | around | {"CHARTER": str(place.folder / "charter.toml")}
        assert await doctor(told | {"DATA_DIR": str(place.folder / "var")}, place.say) == 0, place.told
        assert "Me has opened the bot." in place.told
    finally:
        program.send_signal(signal.SIGTERM)
        said, _ = await program.communicate()
    assert program.returncode == 0, said


async def test_without_a_terminal_nobody_is_asked(place):
    program = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bot", "init",
        env={"PYTHONPATH": str(ROOT)}, cwd=place.folder,
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    _, said = await program.communicate()
    assert program.returncode == 1
    assert b"Nobody is there to ask. Give --token and --health-url." in said
    assert files(place) == {}
