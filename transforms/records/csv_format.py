"""The layout of CSV: stated in a mapping, used by the files source to split, and carried in raw blocks."""

import msgspec


class CsvFormat(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Errors: ValueError `.key: got ..., allowed ...`; the reader of a mapping prepends the path.

    delimiter  one ASCII character; "" = by file name: a tab for .tsv, else a comma
    quote      one ASCII character; "" = fields are never quoted
    header     whether the first record names the columns
    columns    their names if it does not
    """

    delimiter: str = ""
    quote: str = '"'
    header: bool = True
    columns: tuple[str, ...] = ()

    def __post_init__(self):
        for name, char in (("delimiter", self.delimiter), ("quote", self.quote)):
            if len(char) > 1 or char in ("\r", "\n") or not char.isascii():
                raise ValueError(f".{name}: got {char!r}, allowed one ASCII character or ''")
        if self.quote and self.quote in (self.delimiter or "\t,"):
            raise ValueError(f".quote: got {self.quote!r}, which is also the delimiter; give another, or ''")
        if self.header == bool(self.columns):
            got = f"{list(self.columns)} with header {str(self.header).lower()}"
            raise ValueError(f".columns: got {got}, allowed names if header is false, else none")
