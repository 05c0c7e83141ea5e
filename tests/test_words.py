"""The words that this repository does not use, and what to write instead.

To hold more of the tree, add its folder to HELD.
"""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HELD = (
    "README.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "Makefile",
    "cloudbuild.yaml",
    "setup.py",
    "docs",
    "templates",
    "pipelines",
    "transforms",
    "tests",
    "benchmarks",
)
# What the changelog says of old names; results that are kept as they were printed.
NEVER = ("tests/test_words.py", "CHANGELOG.md", "benchmarks/RESULTS-bombs.md", "templates/samples")
SUFFIXES = {".md", ".py", ".yaml", ".tf", ".tftpl", ".json", ".sql", ".sh", ".html", ".js", ".css", ".patch", ""}
EXCEPTION = "docs/glossary.md", '"the books balance"'

# pattern -> what to say instead; case does not matter
WORDS = {
    r"\banew\b": "again, from the start; rebuilt, rewritten, recreated",
    r"\bmend(s|ed|ing)?\b": "fix",
    r"\bdata sets?\b": "dataset",
    r"\bfor ever\b": "without end, never deleted",
    r"\bthe books\b": "the audit counts; the counts reconcile",
    r"\bwork-?rounds?\b": "workaround",
    r"\blikewise\b": "the same, also",
    r"\bhad better\b": "should, recommended",
    r"\bof one's own\b": "custom; customer-managed (a key)",
    r"\b(is|are|was|were) told\b": "is reported, is passed, is stated",
    r"\b(is|are) looked at\b": "is checked, is inspected",
    r"\btak(e|es|en|ing) (\w+ )?out (of the warehouse|of every table)\b|\bperson .{0,30}\btaken out\b": "erase",
    r"\bgiv(e|es|en|ing) back\b": "nack (a message), return (a value)",
    r"\bin force\b": "effective (configuration)",
    r"\bgo(es)? by (itself|themselves)\b": "is deleted, expires",
    r"\bset aside\b": "quarantined, rejected",
    r"\bsift(s|ed)?\b|\bsieve\b": "filter",
    r"\btwice is (as )?once\b": "idempotent",
    r"\bif it is not there\b": "if it does not exist",
    r"\bis there already\b": "already exists",
    r"\bwho is (whom|called)\b": "identity map; the on-call engineer",
    r"\bevents (of|by) programs\b": "bot traffic",
    r"\btexts that stand for\b": "values treated as",
    r"\binterfaces? (of the project|that (is|are) (on|off))\b": "APIs that are enabled or disabled",
    r"\b(asked|told|kept|left|written) are\b": "the subject first: X is asked for",
    r"\ba mistake of yours\b|\bmistakes? that (one|a person) can\b": "user error",
    r"\bbounded runs?\b": "batch run",
    r"\b(is|are|be) dear\b": "expensive",
    r"\btries bundles again\b|\bis tried again\b": "retries, is retried",
}
# A phrase may go on in the next line, behind the sign of a comment.
SPACE = r"\\s+(?:(?:#|//|--)\\s*)?"
PATTERNS = {re.compile(re.sub(" ", SPACE, pattern), re.IGNORECASE): instead for pattern, instead in WORDS.items()}


def files(place: str) -> list[Path]:
    """The text files of a path that are held."""
    path = ROOT / place
    inside = sorted(path.rglob("*")) if path.is_dir() else [path]
    skipped = tuple(ROOT / each for each in NEVER)
    return [
        file
        for file in inside
        if file.is_file() and file.suffix in SUFFIXES and not any(file.is_relative_to(each) for each in skipped)
    ]


def found(text: str) -> list[str]:
    """`line: 'word'; say: ...` of every use of a word that the table rejects."""
    hits = [(hit.start(), hit[0], instead) for pattern, instead in PATTERNS.items() for hit in pattern.finditer(text)]
    return [f"{text.count(chr(10), 0, at) + 1}: {word!r}; say: {instead}" for at, word, instead in sorted(hits)]


@pytest.mark.parametrize("place", HELD)
def test_no_file_uses_a_word_that_has_a_better_one(place):
    paths = files(place)
    assert paths, f"{place} is gone; change HELD with it"
    texts = {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in paths}
    page, phrase = EXCEPTION
    if page in texts:
        assert texts[page].count(phrase) == 1
        texts[page] = texts[page].replace(phrase, "")
    assert [f"{name}:{hit}" for name, text in texts.items() for hit in found(text)] == []


def test_a_word_is_found_with_its_line_and_what_to_say():
    assert found("a\nMade anew\n") == ["2: 'anew'; say: again, from the start; rebuilt, rewritten, recreated"]
    assert found("# in a data\n# set that is\n") == ["1: 'data\\n# set'; say: dataset"]
    assert found("renewed, a dataset, amended, forever, the book, mental") == []
