"""CSV by RFC 4180, a record at a time: a reader gives back each text as it was, and no text ends a field or a row.

Texts are written as they are: CSV is for programs. A spreadsheet takes one that begins with = + - or @ for a formula;
who opens an export of strangers' texts in one imports its columns as text.
"""

import re
from collections.abc import Iterable

# Bare is what no reader takes for anything but text: what a dialect may have as delimiter, quote or comment is not.
_BARE = re.compile(r"""(?!\s)[^",;|#']*(?<!\s)""")


def csv_line(texts: Iterable[str | None]) -> str:
    """A record without its line end. None is an empty field, an empty text is "" in quotes."""
    fields = ["" if text is None else _field(text) for text in texts]
    return '""' if fields == [""] else ",".join(fields)  # an empty line would be no record


def _field(text: str) -> str:
    is_bare = text and text.isprintable() and _BARE.fullmatch(text)
    return text if is_bare else '"' + text.replace('"', '""') + '"'
