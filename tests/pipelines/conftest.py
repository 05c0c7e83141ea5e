"""What holds for tests of this folder."""

from tests.support.beam_introspection import pytest_runtest_setup  # noqa: F401 - a hook of pytest
