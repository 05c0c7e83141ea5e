"""Where tests/support/previous_stream.py was."""

from tests.support.previous_stream import MINUTE, book, land, rows_of, write

__all__ = ["MINUTE", "book", "land", "rows_of", "write"]
