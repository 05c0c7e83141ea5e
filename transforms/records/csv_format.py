"""The layout of CSV: stated in a mapping, used by the files source to split, and carried in raw blocks."""

import codecs

import msgspec

BLANKS = "blanks"
MOST_SKIPPED = 10_000


class CsvFormat(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Errors: ValueError `.key: got ..., allowed ...`; the reader of a mapping prepends the path.

    delimiter  one ASCII character; `blanks`: any run of spaces and tabs; "" = by file name: a tab for .tsv, else ","
    quote      one ASCII character; "" = fields are never quoted
    header     whether the first record names the columns
    columns    their names if it does not
    escape     one ASCII character that makes the next one part of a value, such as a backslash
    comment    a line that begins with this text is no record
    skip       how many lines before the header, or before the first record, are none
    null       texts treated as null
    trailing   whether a delimiter stands behind the last value, too
    multiline  whether a quoted value may contain line ends
    rest       name of a column for the values behind the last one, joined; a record may then have fewer values, too
    escaped_bytes  whether an escape with x and two hex digits, such as \\xC3, is a byte of a text in UTF-8
    encoding   of the file, such as latin-1 or utf-16; "" = UTF-8, or as its byte order mark says
    """

    delimiter: str = ""
    quote: str = '"'
    header: bool = True
    columns: tuple[str, ...] = ()
    escape: str = ""
    comment: str = ""
    skip: int = 0
    null: tuple[str, ...] = ()
    trailing: bool = False
    multiline: bool = True
    rest: str = ""
    escaped_bytes: bool = False
    encoding: str = ""

    def __post_init__(self):
        for name, char in (("delimiter", self.delimiter), ("quote", self.quote), ("escape", self.escape)):
            if name == "delimiter" and char == BLANKS:
                continue
            if len(char) > 1 or char in ("\r", "\n") or not char.isascii():
                more = ", 'blanks'" if name == "delimiter" else ""
                raise ValueError(f".{name}: got {char!r}, allowed one ASCII character{more} or ''")
        if self.quote and self.quote in (self.delimiter or "\t,"):
            raise ValueError(f".quote: got {self.quote!r}, which is also the delimiter; give another, or ''")
        if self.escape == self.quote:  # a doubled quote, which is read without it
            msgspec.structs.force_setattr(self, "escape", "")
        if self.escape and self.escape in (self.delimiter or "\t,"):
            raise ValueError(f".escape: got {self.escape!r}, which is also the delimiter; give another, or ''")
        if self.header == bool(self.columns):
            got = f"{list(self.columns)} with header {str(self.header).lower()}"
            raise ValueError(f".columns: got {got}, allowed names if header is false, else none")
        if self.escaped_bytes and not self.escape:
            raise ValueError(".escaped_bytes: got true without an escape, allowed with one, such as '\\\\'")
        if self.rest and self.multiline:  # which the number of values tells apart from a quote that is a mistake
            raise ValueError(f".rest: got {self.rest!r} with values of several lines, allowed with multiline false")
        if "\n" in self.comment or "\r" in self.comment:
            raise ValueError(f".comment: got {self.comment!r}, allowed a text without a line end")
        if not 0 <= self.skip <= MOST_SKIPPED:
            raise ValueError(f".skip: got {self.skip}, allowed 0 to {MOST_SKIPPED:,} lines")
        check_encoding(self.encoding, ".encoding")


def check_encoding(name: str, place: str) -> None:
    """Errors: ValueError for a name that is none of an encoding of text."""
    try:
        "a".encode(name or "utf-8")  # which no codec of bytes to bytes can
        known = codecs.getincrementaldecoder(name or "utf-8") is not None
    except (LookupError, UnicodeError, ValueError):
        known = False
    if not known:
        raise ValueError(f"{place}: got {name!r}, allowed the name of an encoding, such as latin-1, cp1252 or utf-16")
