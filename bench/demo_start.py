"""`make demo` from a clean clone, with an empty environment, to a page that answers.

    python -m bench.demo_start

Clones this repository into a temporary folder and counts everything: the virtual environment, the packages,
the sandbox, the program, the page. Bar: under 90 s. What it started it ends.
"""

import os
import re
import signal
import socket
import subprocess
import tempfile
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
KEPT = ("PATH", "HOME", "PIP_CONFIG_FILE", "PIP_INDEX_URL", "PIP_CERT", "SSL_CERT_FILE")
BAR_S = 90


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def until_it_answers(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    for line in process.stdout:
        if found := re.search(r"Open (http://\S+)", line):
            with urllib.request.urlopen(found[1], timeout=10) as page:  # noqa: S310  our own, on loopback
                assert page.status == 200
            return found[1]
    raise SystemExit("make demo ended before its page answered.")


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="cs-") as folder:
        clone = Path(folder) / "countersign"
        began = time.perf_counter()
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
        environment = {name: os.environ[name] for name in KEPT if name in os.environ}
        process = subprocess.Popen(
            ["make", "demo"],
            cwd=clone,
            env=environment | {"SANDBOX_PORT": str(free_port())},
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            until_it_answers(process)
            took = time.perf_counter() - began
        finally:
            os.killpg(process.pid, signal.SIGINT)
            process.wait(30)
    print(f"make demo, from clone to page: {took:.0f} s   (bar: {BAR_S} s)")


if __name__ == "__main__":
    main()
