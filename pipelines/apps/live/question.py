"""The shape of a question of the live page."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

ROWS = 10  # of a list


class Question(NamedTuple):
    """A question.

    name    the first part of its keys
    title   heading on the page
    metric  page of docs/metrics that defines it
    text    one or two sentences: what is counted, over which time, and what is left out
    final   when its numbers change no more
    views   relations that the SQL names
    since   table -> parameter from which its rows are read
    sql     SELECT without a WITH of its own
    many    whether it has several rows, each with keys of its own
    calm    asked every CALM seconds at most, in place of every tick
    only    table -> condition of the rows that matter, so that copies are sought among few
    until   parameter up to which rows are read; a refresh may be as of the end of the minute that is open
    """

    name: str
    title: str
    metric: str
    text: str
    final: str
    views: tuple[str, ...]
    since: Mapping[str, str]
    sql: str
    many: bool = True
    calm: bool = True
    only: Mapping[str, str] = MappingProxyType({})
    until: str = "now"
