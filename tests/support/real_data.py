"""The sets of real events. They lie beside a checkout and are no part of it: without them a test is skipped, and a run
says so at its end."""

from pathlib import Path

import pytest

BESIDE = Path(__file__).parents[3] / "shared" / "data"


def real_set(name: str) -> Path:
    """The folder of a set; the test is skipped where there is none."""
    folder = BESIDE / name
    if not folder.exists():
        pytest.skip(f"NO REAL DATA: {name} is not beside this checkout")
    return folder
