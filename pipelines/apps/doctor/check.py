"""A check of `audience doctor`: a section, what was looked at, its state, and how to get what is missing."""

from typing import Any, NamedTuple

REQUIRED, MACHINE, OPTIONAL, WAREHOUSE, LAUNCH = "required", "machine", "optional", "warehouse", "launch"
FILE = "damaged file"
FOUND, MISSING, WRONG = "found", "missing", "wrong"
MADE = "to be created"  # by the launch


class Check(NamedTuple):
    """A row. `facts` are values that only the JSON output lists separately."""

    section: str
    name: str
    state: str
    detail: str = ""
    allows: str = ""
    get: str = ""
    facts: dict[str, Any] = {}
