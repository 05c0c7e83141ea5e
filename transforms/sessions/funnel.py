"""The funnel: its ordered steps, and the time that a person has to complete them."""

from datetime import timedelta
from typing import Annotated

import msgspec
from msgspec import Meta

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}

EventType = Annotated[str, Meta(pattern="^[a-z][a-z0-9_]{0,63}$")]


class Funnel(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Ordered steps of the funnel, and the time window in which to complete them."""

    steps: Annotated[
        Annotated[tuple[EventType, ...], Meta(min_length=2, max_length=10)],
        Meta(
            description="Event types in the order of the steps, each once",
            examples=[["page_view", "signup"]],
            extra={"unit": "event types, 2 to 10"},
        ),
    ]
    window: Annotated[
        Annotated[str, Meta(pattern="^[1-9][0-9]{0,3}[smhd]$")],
        Meta(
            description="Maximum time from the first step to the last",
            examples=["7d"],
            extra={"unit": "a number with a suffix: s, m, h or d"},
        ),
    ] = "1d"

    def __post_init__(self):
        if len(set(self.steps)) < len(self.steps):
            twice = next(step for step in self.steps if self.steps.count(step) > 1)
            raise ValueError(f".steps: got {twice!r} twice, allowed each event type once")

    @property
    def width(self) -> timedelta:
        """The window."""
        return timedelta(**{_UNITS[self.window[-1]]: int(self.window[:-1])})
