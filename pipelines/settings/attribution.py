"""The section `attribution` of the configuration: how far back a visit may lie that a conversion is attributed to."""

from typing import Annotated

import msgspec
from msgspec import Meta


class Attribution(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The visits that a conversion may be attributed to."""

    look_back_days: Annotated[
        int,
        Meta(
            ge=1,
            le=90,
            description="Days before the day of a conversion whose visits count; those of its own day always do",
            examples=[7],
            extra={"unit": "days, 1 to 90"},
        ),
    ] = 30
