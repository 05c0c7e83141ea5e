"""The options of a refresh that a run of the graph does not have. Nothing here imports Beam."""

from datetime import datetime

from pipelines.settings.forms import Option

TIME_IN_WORDS = "a time with its zone, such as 2026-03-01T10:00:00Z"


def read_time(text: str) -> datetime:
    """A time with its zone. Raises ValueError with what is allowed."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(TIME_IN_WORDS) from None
    if moment.tzinfo is None:
        raise ValueError(TIME_IN_WORDS)
    return moment


REFRESH = Option(
    "refresh",
    "Of the template: run audience refresh on the dataset as a batch job, instead of a stream or a backfill",
    flag=True,
    group="refresh",
)
AS_OF = Option(
    "as_of",
    "Compute answers as of this time, from what was stored at or before it (default: the end of the newest closed "
    "bucket)",
    allowed=TIME_IN_WORDS,
    example="2026-03-01T10:00:00Z",
    read=read_time,
    group="refresh",
)
REFRESH_OPTIONS = (REFRESH, AS_OF)
