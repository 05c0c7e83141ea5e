"""Write CSV (RFC 4180) one record at a time: a reader gets back each string unchanged, and none breaks a field or row.

Strings are not altered, since CSV is for programs. A spreadsheet treats one that begins with = + - or @ as a formula:
import the columns of untrusted data as text.
"""

import re
from collections.abc import Iterable

# Unquoted strings contain nothing that any CSV dialect uses as a delimiter, quote or comment.
_BARE = re.compile(r"""(?!\s)[^",;|#']*(?<!\s)""")


def csv_line(texts: Iterable[str | None]) -> str:
    """Return a record without its line end. None is an empty field, an empty string is "" in quotes."""
    fields = ["" if text is None else _field(text) for text in texts]
    return '""' if fields == [""] else ",".join(fields)  # an empty line would not be a record


def _field(text: str) -> str:
    is_bare = text and text.isprintable() and _BARE.fullmatch(text)
    return text if is_bare else '"' + text.replace('"', '""') + '"'
