"""Redact a person's identifier in rows of other people. Pure except for the random tokens.

A plain identifier becomes a token, the same everywhere in one erasure, so equal values stay equal and distinct values
stay distinct: rows keep their keys. A value that names the person only after decoding is replaced as a whole, by a
token of its own; in JSON, that is the string or number, not the document. Tokens are random and not stored, so nobody
can tell later whose they were.
"""

import json
import re
import secrets

import polars as pl

from pipelines.batch.person.places import Hits
from pipelines.batch.person.search import NAMING, Search

_JSON_VALUE = re.compile(r'"(?:[^"\\]|\\.)*"|-?\d[\d.eE+-]*', re.DOTALL)


class Redaction:
    """The redaction of one erasure."""

    def __init__(self, search: Search):
        self.search = search
        self.tokens = {id: _token() for id in search.ids}
        self._texts: dict[str, str] = {}

    def text(self, value: str) -> str:
        """Return the value without the people of the search; a value that names none of them is unchanged."""
        if self.search.kind(value) not in NAMING:
            return value
        if value not in self._texts:
            redacted = self.search.replace(value, self.tokens)
            self._texts[value] = _token() if self.search.kind(redacted) in NAMING else redacted
        return self._texts[value]

    def json(self, document: str) -> str:
        """Redact the strings and numbers of a JSON document one by one."""
        redacted = _JSON_VALUE.sub(self._json_value, document)
        return "{}" if self.search.kind(redacted) in NAMING else redacted

    def _json_value(self, match: re.Match) -> str:
        written = match[0]
        try:
            value = json.loads(written)
        except ValueError:
            return written
        text = value if isinstance(value, str) else written
        redacted = self.text(text)
        return written if redacted == text else json.dumps(redacted, ensure_ascii=False)

    def columns(self, hits: list[Hits], json_columns: set[str]) -> list[pl.Expr]:
        """Return expressions that redact the columns of these hits in one table."""
        found = []
        for each in hits:
            old = each.of_kind(*NAMING)["value"].to_list()
            new = list(map(self.json if each.column in json_columns else self.text, old))
            found.append(pl.col(each.column).replace(old, new))
        return found


def _token() -> str:
    return f"erased-{secrets.token_hex(8)}"
