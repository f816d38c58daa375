"""The sample in docs/ is what the README says: three lines verify it, change a byte, see the entry named."""

import asyncio
import re
import shutil
import subprocess
import sys
from pathlib import Path

from ledger import lines, verify
from ledger.commands.replay import replayed
from ledger.machine import Stage
from ledger.verify import Verifier, read_receipt

ROOT = Path(__file__).resolve().parents[2]
SAMPLE = ROOT / "docs" / "sample-ledger"
SECTION = re.compile(r"### Check it yourself\n.*?```sh\n(.*?)```", re.DOTALL)


async def test_the_three_lines_of_the_readme_do_what_it_says(tmp_path):
    [text] = SECTION.findall((ROOT / "README.md").read_text(encoding="utf-8"))
    assert len(text.splitlines()) == 3
    ran = await asyncio.to_thread(
        subprocess.run,
        ["bash", "-c", text],
        cwd=ROOT,
        env={"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    first, *_, last = ran.stdout.splitlines()
    assert first.startswith("INTACT. "), ran.stdout + ran.stderr
    assert re.match(r"TAMPERED\. Entry \d+: ", last), ran.stdout + ran.stderr
    assert (ran.returncode, ran.stderr) == (1, "")


def test_a_byte_changed_anywhere_in_it_is_seen(tmp_path):
    folder, kept = tmp_path / "sample", {"receipts.txt"}  # what people kept is theirs, and says nothing else
    shutil.copytree(SAMPLE, folder)
    for file in sorted(path for path in folder.rglob("*") if path.is_file() and path.name not in kept):
        content = file.read_bytes()
        end, step = len(content) - 1, max(1, len(content) // 15)
        said = content.find(b'"durability": "') + 15
        for at in {*range(0, end, step), end, *range(said, said + 7)}:
            file.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
            assert verify.main([str(folder)]) != 0, (file.name, at)
        file.write_bytes(content)
    assert verify.main([str(folder)]) == 0


def test_it_tells_of_a_dissent_that_a_person_decided():
    view = replayed(SAMPLE, Verifier())
    incident = view.incidents["checkout-1"]
    _, authorized = incident.authorization
    assert incident.stage is Stage.RESOLVED
    assert (authorized.theory, authorized.action) == ("B", "switch_payments")
    assert authorized.voters == ("tendai",)


def test_the_receipts_beside_it_were_on_phones_and_are_of_decisions_and_outcomes():
    kept = [read_receipt(line) for line in (SAMPLE / "receipts.txt").read_text().splitlines()]
    log = Verifier()
    events = [re.search(rb'"event":"(\w+)"', line)[1].decode() for line in lines.check(SAMPLE, log)]
    assert {"CharterAdopted", "Authorized", "Verified"} <= {events[seq - 1] for seq, _ in kept}
    assert log.verdict().startswith("INTACT.")
