"""Chromium without a window, for what a person opens. Debian: apt-get install chromium."""

import shutil
from collections.abc import Iterator

import pytest

from tests.servers.needed import LIMIT, missing

NAMES = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="module")
def browser() -> Iterator:
    """The browser, one for each module: while it is open, no test of the process can run a loop of asyncio."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        missing("no browser opens the report: none of chromium, chromium-browser, google-chrome is installed")
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=LIMIT * 1_000)

    with sync_playwright() as player:
        # In a container nobody may have the rights that its sandbox asks for; what it opens is ours.
        browser = player.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield browser
        browser.close()
