"""What an erasure did with rows that name a person, and when it asks first."""

from typing import NamedTuple

from transforms.errors import WarehouseError

MANY = 1_000  # if more rows of others, or quarantined records, name the person, the identifier may be a common word
REDACT, KEEP = "redact", "keep"  # what to do with mentions in rows of others


class Outcome(NamedTuple):
    """The outcome for rows in which a column names the person: deleted, redacted or kept, with the reason."""

    table: str
    column: str
    kind: str
    outcome: str
    rows: int
    reason: str = ""


def too_many(many: int, what: str) -> WarehouseError:
    """The error of an identifier that names more than MANY rows."""
    return WarehouseError(
        f"{many:,} {what} mention the person: the identifier may be a common word; check with `audience person "
        f"--find`, then give --mentions {REDACT} or --mentions {KEEP} (quarantined records that name the person are "
        "deleted in either case)"
    )
