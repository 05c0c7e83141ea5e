"""Tests that build pipelines in this process remember what Beam finds out about the code, as the runs themselves do."""

import sys
from typing import Any

from pipelines.runners.introspection import remember_introspection


def pytest_runtest_setup(item: Any) -> None:
    """Before each test, since the first that needs Beam imports it."""
    if "apache_beam.pipeline" in sys.modules:
        remember_introspection()
