"""A mistake in a charter names file, key, reason and remedy; what it leaves out means nobody and nothing."""

import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.settings import NAMES
from handlers.charter import CharterError, Quorum, load, load_all, parse

PERSON = '[[people]]\nid = "rudo"\nname = "Rudo"\nroles = ["oncall", "admin"]\ntelegram = 1001\n'
SERVICE = '[[services]]\nid = "checkout"\nhealth_url = "https://checkout.example.com/health/alerts"\n'
ACTION = """[[services.actions]]
id = "restart"
title = "Restart"
webhook = "https://ops.example.com/recover/restart"
secret_env = "ACME_RECOVERY"
approve = "1 oncall"
cooldown = "10m"
expires = "90s"
"""
TENANT, RESTART = 'id = "acme"', "services.1.actions.1"
GOOD = f'[tenant]\nid = "acme"\n{PERSON}{SERVICE}{ACTION}'


def of(tenant: str, rest: str = "") -> str:
    return f'[tenant]\nid = "{tenant}"\n{rest}'


def only_mistake(text: str):
    with pytest.raises(CharterError) as wrong:
        parse(text, "acme.toml", NAMES)
    [mistake] = wrong.value.mistakes
    assert mistake.file == "acme.toml"
    assert mistake.remedy.endswith((".", "?"))
    return mistake


def test_a_good_charter_says_who_may_approve_what():
    charter = parse(GOOD, forbidden_secrets=NAMES)
    action = charter.action("checkout", "restart")
    assert (action.cooldown, action.expires) == (600_000, 90_000)
    assert [person.id for person in charter.approvers(action.quorum)] == ["rudo"]
    assert charter.digest() == parse(GOOD).digest()


@pytest.mark.parametrize(
    ("old", "new", "key", "reason", "remedy"),
    [
        (TENANT, f'{TENANT}\ncolour = 3', "tenant.colour", "no such key", "Remove it"),
        ("telegram = 1001", "telegrm = 1001", "people.1.telegrm", "no such key", "check its spelling"),
        ('name = "Rudo"\n', "", "people.1.name", "is missing", "Add it"),
        (TENANT, 'id = "Acme Ltd"', "tenant.id", "has a form", "as in the README"),
        (TENANT, f'{TENANT}\ntimezone = "Harare"', "tenant.timezone", "no time zone", "Africa/Harare"),
        (TENANT, f'{TENANT}\nallow_networks = ["10/99"]', "tenant.allow_networks", "10/99", "README"),
        ("https://checkout.", "ftp://checkout.", "services.1.health_url", "no address", "https://host/path"),
        ("https://ops.", "https://me:pw@ops.", f"{RESTART}.webhook", "no address", "without a user"),
        ('cooldown = "10m"', 'cooldown = "soon"', f"{RESTART}.cooldown", "no duration", "10m"),
        ('approve = "1 oncall"', 'approve = "oncall"', f"{RESTART}.approve", "no quorum", "2 dev or 1 admin"),
        ('approve = "1 oncall"', 'approve = "0 oncall"', f"{RESTART}.approve", "no quorum", "1 oncall"),
    ],
)  # fmt: skip
def test_a_mistake_names_key_reason_and_remedy(old, new, key, reason, remedy):
    assert old in GOOD
    mistake = only_mistake(GOOD.replace(old, new, 1))
    assert mistake.key == key
    assert reason in mistake.reason
    assert remedy in mistake.remedy


def test_text_that_is_no_toml_names_its_line():
    mistake = only_mistake(GOOD + "[[services\n")
    assert (mistake.key, mistake.remedy) == ("file", "Mend the line that it names.")
    assert f"line {GOOD.count(chr(10)) + 1}" in mistake.reason


def test_a_secret_that_settings_reads_is_nobodys():
    text = GOOD.replace("acme", "telegram").replace("ACME_RECOVERY", "TELEGRAM_BOT_TOKEN")
    mistake = only_mistake(text)
    assert mistake.key == "services.checkout"
    assert mistake.reason == "TELEGRAM_BOT_TOKEN is a secret of Countersign itself"
    assert mistake.remedy == "Give the webhook a secret of its own."


@pytest.mark.parametrize(
    "text",
    [
        GOOD.replace("ACME_RECOVERY", "UMBRELLA_RECOVERY"),
        GOOD.replace("ACME_RECOVERY", "ACMEX_RECOVERY"),
        GOOD.replace(SERVICE, SERVICE + 'token_env = "GITHUB_TOKEN"\n'),
    ],
)
def test_a_secret_begins_with_its_tenants_name(text):
    mistake = only_mistake(text)
    assert "is not this tenant's" in mistake.reason
    assert mistake.remedy == "Let its name start with ACME_."


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        (PERSON.replace("1001", "1002"), "people: 'rudo' stands twice"),
        (PERSON.replace('"rudo"', '"tendai"'), "people.telegram: 1001 stands twice"),
        ("[[chats]]\ntelegram = -1\n[[chats]]\ntelegram = -1\n", "chats: -1 stands twice"),
        (SERVICE, "services: 'checkout' stands twice"),
        (
            SERVICE.replace("checkout", "pay") + ACTION + ACTION,
            "services.pay.actions: 'restart' stands twice",
        ),
    ],
)
def test_whoever_stands_twice_is_named(more, reason):
    mistake = only_mistake(GOOD + more)
    assert (mistake.reason, mistake.remedy) == (reason, "Each may stand once.")


def test_a_threshold_that_policy_does_not_know_is_named():
    mistake = only_mistake(GOOD + "[policy]\nclose_minutes = 3\n")
    assert mistake.key == "policy.close_minutes"


def test_all_mistakes_are_told_at_once():
    text = GOOD.replace("telegram = 1001", "telegrm = 1001").replace('"10m"', '"soon"')
    with pytest.raises(CharterError) as wrong:
        parse(text, "acme.toml")
    assert [mistake.key for mistake in wrong.value.mistakes] == [
        "people.1.telegrm",
        "services.1.actions.1.cooldown",
    ]
    assert str(wrong.value).count("acme.toml: ") == 2


@pytest.mark.parametrize("nobody", ["", "  "])
def test_an_empty_approver_list_is_allowed_and_means_nobody(nobody):
    charter = parse(GOOD.replace("1 oncall", nobody))
    quorum = charter.action("checkout", "restart").quorum
    assert charter.approvers(quorum) == []
    assert not quorum.admits({"oncall", "dev", "admin"})
    assert not quorum.met_by([{"oncall", "dev", "admin"}] * 9)


roles = st.sets(st.sampled_from(["oncall", "dev", "admin"]))


@given(st.integers(1, 9), st.integers(1, 9), st.lists(roles, max_size=12))
def test_a_quorum_is_met_by_enough_of_one_kind(devs, admins, voters):
    quorum = Quorum.parse(f"{devs} dev or {admins} admin")
    enough = sum("dev" in v for v in voters) >= devs or sum("admin" in v for v in voters) >= admins
    assert quorum.met_by(voters) == enough
    assert quorum.needs() == min(devs, admins)


@given(st.text(max_size=200))
def test_any_other_text_is_refused_in_words(text):
    with pytest.raises(CharterError) as wrong:
        parse(text)
    assert all(str(mistake).startswith("charter.toml: ") for mistake in wrong.value.mistakes)


@pytest.fixture
def folder(tmp_path):
    def put(**files: str) -> Path:
        for name, text in files.items():
            (tmp_path / f"{name}.toml").write_text(text)
        return tmp_path

    return put


def refused(path: Path) -> str:
    with pytest.raises(CharterError) as wrong:
        load_all(path, NAMES)
    return str(wrong.value)


def test_a_folder_holds_one_tenant_a_file(folder):
    assert list(load_all(folder(acme=GOOD, umbrella=of("umbrella")))) == ["acme", "umbrella"]


def test_one_tenant_in_two_files_is_refused(folder):
    said = refused(folder(acme=GOOD, copy=GOOD))
    assert said.endswith("copy.toml: tenant.id: 'acme' stands in two files. Rename one.")


def test_two_tenants_in_one_file_are_refused(folder):
    assert "is not TOML" in refused(folder(acme=GOOD + '[tenant]\nid = "umbrella"\n'))


def test_a_chat_belongs_to_one_tenant(folder):
    chat = "[[chats]]\ntelegram = -100200300\n"
    said = refused(folder(acme=GOOD + chat, umbrella=of("umbrella", chat)))
    assert (
        "umbrella.toml: chats: the chat -100200300 is already acme's. A chat belongs to one tenant." in said
    )


def test_an_empty_folder_and_a_file_that_is_not_there_are_named(tmp_path):
    assert "holds no charter. Put one NAME.toml a tenant into it." in refused(tmp_path)
    missing = tmp_path / "none.toml"
    assert str(missing) in refused(missing)
    assert "Set CHARTER to a file or folder that exists." in refused(missing)


def test_a_file_that_is_no_text_is_named(tmp_path):
    file = tmp_path / "acme.toml"
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(CharterError, match="cannot be read"):
        load(file)


def test_what_is_kept_and_exported_has_no_contacts():
    text = parse(GOOD.replace("1001", '1001\nwhatsapp = "+263770000001"')).text()
    assert "1001" not in text
    assert "263770000001" not in text
    assert "Rudo" in text


def test_the_charter_with_which_a_deployment_starts_is_a_good_one():
    charters = Path(__file__).parents[3] / "charters"
    found = load_all(charters, NAMES)
    assert [person.roles for person in found["home"].people] == [("oncall", "dev", "admin")]
    said = "\n".join(
        line.removeprefix("# ").removeprefix("#")
        for line in (charters / "home.toml").read_text().splitlines()
        if line.startswith(("#", "[")) or " = " in line
    )
    commented = said[said.index("[[services]]") :]
    assert parse(of("home", commented)).service("checkout").actions[0].default
    assert tomllib.loads(commented)
