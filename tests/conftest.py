"""How many tests run at the same time. Most of the long ones wait for other processes and not for a core."""

import os


def pytest_xdist_auto_num_workers() -> int:
    """For `-n auto`: twice as many as there are cores."""
    return 2 * (os.cpu_count() or 1)
