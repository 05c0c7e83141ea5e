"""Redaction: what stands in rows of others in the place of a person's identifier. Pure but for the random tokens.

An identifier that stands as it is becomes a token, the same everywhere in one erasure, so that what was one value stays
one value and two never become one: rows keep their keys. Of a value that names the person only once it is decoded all
is replaced, by a token of its own; in JSON the string or number, not the document. Tokens are random and kept nowhere:
nobody can say later whose they were.
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
        """A value that names no person of the search; one that names none is left as it is."""
        if self.search.kind(value) not in NAMING:
            return value
        if value not in self._texts:
            redacted = self.search.replace(value, self.tokens)
            self._texts[value] = _token() if self.search.kind(redacted) in NAMING else redacted
        return self._texts[value]

    def json(self, document: str) -> str:
        """The same of a JSON document, its strings and numbers one by one."""
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
        """Expressions that redact the columns of these hits, which are of one table."""
        found = []
        for each in hits:
            old = each.of_kind(*NAMING)["value"].to_list()
            new = list(map(self.json if each.column in json_columns else self.text, old))
            found.append(pl.col(each.column).replace(old, new))
        return found


def _token() -> str:
    return f"erased-{secrets.token_hex(8)}"
