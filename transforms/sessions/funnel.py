"""The funnel: the steps that a team asks in their order, and how long a person has for all of them."""

from datetime import timedelta
from typing import Annotated

import msgspec
from msgspec import Meta

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}

EventType = Annotated[str, Meta(pattern="^[a-z][a-z0-9_]{0,63}$")]


class Funnel(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Steps that people take one after the other, and the time that they have for them."""

    steps: Annotated[
        Annotated[tuple[EventType, ...], Meta(min_length=2, max_length=10)],
        Meta(
            description="Kinds of event in the order in which they are asked, each once",
            examples=[["page_view", "signup"]],
            extra={"unit": "kinds of event, 2 to 10"},
        ),
    ]
    window: Annotated[
        Annotated[str, Meta(pattern="^[1-9][0-9]{0,3}[smhd]$")],
        Meta(
            description="How long after the first step the last one counts",
            examples=["7d"],
            extra={"unit": "s, m, h or d behind the number"},
        ),
    ] = "1d"

    def __post_init__(self):
        if len(set(self.steps)) < len(self.steps):
            twice = next(step for step in self.steps if self.steps.count(step) > 1)
            raise ValueError(f".steps: got {twice!r} twice, allowed each kind of event once")

    @property
    def width(self) -> timedelta:
        """The window."""
        return timedelta(**{_UNITS[self.window[-1]]: int(self.window[:-1])})
