"""How senders may write an identifier: each form a function of the text, drawn with the case and what it escapes."""

import base64
from urllib.parse import quote, quote_plus

from hypothesis import strategies as st


def cased(draw, text: str) -> str:
    return text.upper() if draw(st.booleans()) else text


def as_it_is(draw, text: str) -> str:
    return text


def json_escaped(draw, text: str) -> str:
    """Any of the characters as \\uXXXX, a pair where it needs one; quotes and backslashes always escaped."""
    parts = []
    for each in text:
        if each in '"\\' or draw(st.booleans()):
            data = each.encode("utf-16-be").hex()
            parts += [f"\\u{cased(draw, data[n : n + 4])}" for n in range(0, len(data), 4)]
        else:
            parts.append("\\/" if each == "/" else each)
    return "".join(parts)


def percent(draw, text: str) -> str:
    """Any of the bytes as %XX; all that have to be are."""
    written = (
        f"%{cased(draw, f'{byte:02x}')}" if byte > 126 or chr(byte) in "% +" or draw(st.booleans()) else chr(byte)
        for byte in text.encode()
    )
    return "".join(written)


def form(draw, text: str) -> str:
    return quote_plus(text)


def twice_percent(draw, text: str) -> str:
    return percent(draw, quote(text, safe=""))


def html_entities(draw, text: str) -> str:
    decimal = draw(st.booleans())
    return "".join(f"&#{ord(each)};" if decimal else f"&#x{ord(each):x};" for each in text)


def base64_inside(draw, text: str) -> str:
    """At any of the three alignments, of either alphabet, with and without padding."""
    data = ("", "b ", "be ")[draw(st.integers(0, 2))] + text + draw(st.sampled_from(["", " e", " end"]))
    encode = draw(st.sampled_from([base64.b64encode, base64.urlsafe_b64encode]))
    written = encode(data.encode()).decode()
    return written.rstrip("=") if draw(st.booleans()) else written


def hexadecimal(draw, text: str) -> str:
    return cased(draw, text.encode().hex())


TEXTS = (as_it_is, json_escaped, percent, form, twice_percent, html_entities)
CODES = (base64_inside, hexadecimal)  # of at least four bytes
# Spaces and line ends may stand in an identifier, not at its ends; NUL and the separators of lines in none.
IDS = st.text(st.characters(codec="utf-8", categories=["L", "N", "P", "S", "Zs"]), min_size=1, max_size=12).filter(
    lambda id: id == id.strip()
)


@st.composite
def written(draw, ids=IDS) -> tuple[str, str]:
    """(an identifier, what a sender may write of it): one form, or one of another."""
    id = draw(ids)
    choices = (*TEXTS, *(CODES if len(id.encode()) >= 4 else ()))
    text = draw(st.sampled_from(choices))(draw, id)
    if draw(st.booleans()):
        text = draw(st.sampled_from([json_escaped, percent, html_entities]))(draw, text)
    return id, text
