"""Labels: a text of the data as the page shows it, without what may name a person and without invisible characters.

Names of contents, campaigns and the like come from trackers, which put addresses and tokens into them: of a link that a
newsletter sent, or a path of a page with a session in it. Such a part is replaced by what it is.
"""

import re

from pipelines.system.terminal import shown

LONGEST = 200  # characters
_HIDDEN = (
    (re.compile(r"[^\s@/?&=:;,<>()\"']{1,64}(?:@|%40)[\w-]+(?:\.[\w-]+)+"), "[e-mail]"),
    (re.compile(r"(?<![\w.])(?:\d{1,3}\.){3}\d{1,3}(?![\w.])"), "[address]"),
    (re.compile(r"(?<![\w:])(?:[0-9A-Fa-f]{1,4}:){2,7}(?::?[0-9A-Fa-f]{1,4}){0,6}(?![\w:])"), "[address]"),
    (re.compile(r"\bey[\w-]{8,}\.[\w-]{8,}\.[\w-]*"), "[token]"),
    (re.compile(r"\b(?:sk|pk|rk|ak|al|gh[opsu]|xox[abp]|whsec|glpat|AKIA)[_-]?[\w-]{16,}"), "[token]"),
    (re.compile(r"(?<![A-Za-z0-9])(?=[A-Za-z_-]*\d)(?=[\d_-]*[A-Za-z])[A-Za-z0-9]{24,}(?![A-Za-z0-9])"), "[token]"),
    (re.compile(r"(?<!\d)\+?\d(?:[ ().-]?\d){9,14}(?!\d)"), "[number]"),
)


def label(text: str) -> str:
    """The text as the page may show it."""
    for pattern, word in _HIDDEN:
        text = pattern.sub(word, text[: 4 * LONGEST])
    text = shown(text)
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"
