"""The sentiment of English texts by the rules and the lexicon of VADER, over arrays of words instead of word by word.

Rules: C. Hutto and E. Gilbert, "VADER: A Parsimonious Rule-based Model for Sentiment Analysis of Social Media Text",
ICWSM 2014, as the package `vaderSentiment` 3.3.2 applies them; its lexicon, boosters and idioms are read from it. A
rule looks at the three words before a word of the lexicon and at the two behind it: so it is a shift of the array.
"""

from functools import cache
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from transforms.insight.tokens import Tokens, tokens

ALPHA = 15  # of the normalization: a sum x becomes x / sqrt(x * x + ALPHA)
DECAY = (1.0, 0.95, 0.9)  # of a booster, by its distance
NEVER = 1.25  # "never so good"
BUT_BEFORE, BUT_AFTER = 0.5, 1.5
REACH = 3  # words before one of the lexicon that rules look at
SPOKEN = ("no", "or", "nor", "kind", "of", "least", "at", "very", "never", "so", "this", "without", "doubt", "but")


class Vader(NamedTuple):
    """What the package holds.

    words     a row a word: `lower` String, `valence` Float64 (null: not in the lexicon), `boost` Float64 (null: no
              booster), `is_negation` Boolean, `role` Int64 (its number among the words that a rule names, 0 for none)
    role      the number of each such word
    idioms    the idioms of two and of three words, as keys of roles, and what they are worth
    boosters  the same of the boosters of two words
    emojis    each emoji of one character, and its description
    """

    words: pl.DataFrame
    role: dict[str, int]
    idioms: dict[int, float]
    boosters: dict[int, float]
    emojis: dict[str, str]
    loudness: float
    negation: float


@cache
def vader() -> Vader:
    """The lexicon and the word lists of the package, read once."""
    from vaderSentiment import vaderSentiment as package

    analyzer = package.SentimentIntensityAnalyzer()
    boosters: dict[str, float] = package.BOOSTER_DICT
    phrases = {phrase: worth for phrase, worth in package.SPECIAL_CASES.items() if " " in phrase}
    pairs = {phrase: worth for phrase, worth in boosters.items() if " " in phrase}
    named = sorted({*SPOKEN, *(word for phrase in (*phrases, *pairs) for word in phrase.split())})
    role = {word: number for number, word in enumerate(named, 1)}
    every = sorted({*analyzer.lexicon, *boosters, *package.NEGATE, *named})
    words = pl.DataFrame(
        {
            "lower": every,
            "valence": [analyzer.lexicon.get(word) for word in every],
            "boost": [boosters.get(word) for word in every],
            "is_negation": [word in set(package.NEGATE) for word in every],
            "role": [role.get(word, 0) for word in every],
        },
        schema={
            "lower": pl.String,
            "valence": pl.Float64,
            "boost": pl.Float64,
            "is_negation": pl.Boolean,
            "role": pl.Int64,
        },
    )
    first, second = ({_phrase_key(each, role): worth for each, worth in of.items()} for of in (phrases, pairs))
    emojis = {sign: text for sign, text in analyzer.emojis.items() if len(sign) == 1}
    return Vader(words, role, first, second, emojis, package.C_INCR, package.N_SCALAR)


def _phrase_key(phrase: str, role: dict[str, int]) -> int:
    return _key(*(role[word] for word in phrase.split()))


def valence(texts: pl.Series) -> np.ndarray:
    """VADER's compound of English texts: -1 to 1, 4 decimals, 0 for a text without a word of the lexicon.

    texts   String without null; the result has shape (texts,), float64
    """
    spoken = described(texts)
    return valence_of_tokens(spoken, tokens(spoken))


def described(texts: pl.Series) -> pl.Series:
    """The texts with each emoji replaced by its description, as VADER reads them."""
    known = vader().emojis
    if texts.is_empty() or not texts.str.contains(r"[^\x00-\xff]").any():
        return texts
    return texts.str.replace_many(list(known), [f" {text}" for text in known.values()])


def valence_of_tokens(texts: pl.Series, words: Tokens) -> np.ndarray:
    """The same, of texts whose words are known."""
    found = _Words(words)
    hits = np.flatnonzero(found.is_scored)
    worth = _contrasted(found, hits, _in_context(found, hits))
    sums = np.bincount(words.text[hits], weights=worth, minlength=words.texts).astype(np.float64)
    marks = texts.to_frame("text").select(
        shouts=pl.col("text").str.count_matches("!", literal=True).clip(upper_bound=4),
        asks=pl.col("text").str.count_matches("?", literal=True),
    )
    asks = marks["asks"].to_numpy().astype(float)
    louder = marks["shouts"].to_numpy() * 0.292 + np.where(asks > 3, 0.96, np.where(asks > 1, asks * 0.18, 0.0))
    sums = sums + np.sign(sums) * louder
    return np.round(sums / np.sqrt(sums * sums + ALPHA), 4)


class _Words:
    """What VADER knows of each word of some texts: arrays of shape (3 + words + 3,), so that shifts stay inside."""

    def __init__(self, words: Tokens):
        book = vader()
        known = words.known.join(book.words, on="lower", how="left", maintain_order="left")
        contracted = known["lower"].str.contains("n't", literal=True)
        self.words = words
        self.place = words.place
        self.lexicon = self._of(known["valence"].fill_null(np.nan).to_numpy(), np.nan)
        self.is_known = ~np.isnan(self.lexicon)
        self.boost = self._of(known["boost"].fill_null(0.0).to_numpy(), 0.0)
        self.negates = self._of((known["is_negation"].fill_null(False) | contracted).to_numpy(), False)
        self.role = self._of(known["role"].fill_null(0).to_numpy(), 0)
        upper = known["is_upper"].to_numpy()[words.code]
        others = words.total(~upper)
        size = np.bincount(words.text, minlength=words.texts)
        mixed = (others > 0) & (others < size)
        self.is_loud = np.pad(upper & mixed[words.text], REACH)
        self.behind = size[words.text] - 1 - words.place
        own = slice(REACH, -REACH)
        of = (self.role[own] == book.role["kind"]) & (
            self.at(np.arange(len(words.text)), 1, self.role) == book.role["of"]
        )
        self.is_scored = self.is_known[own] & (self.boost[own] == 0) & ~of

    def _of(self, values: np.ndarray, outside: Any) -> np.ndarray:
        return np.pad(values[self.words.code], REACH, constant_values=outside)

    def at(self, words: np.ndarray, shift: int, values: np.ndarray) -> np.ndarray:
        """The values of the words so far behind these (negative: before), those of no word where the text ends."""
        inside = self.place[words] >= -shift if shift < 0 else self.behind[words] >= shift
        return np.where(inside, values[words + REACH + shift], values[0])


def _key(*roles: Any) -> int:
    """The key of a phrase: its words' roles as digits."""
    key = 0
    for each in roles:
        key = key * 64 + each
    return key


def _phrase(roles: tuple[np.ndarray, ...], worth: dict[int, float]) -> np.ndarray:
    """What the phrase of these words is worth, NaN if it is none. Shape of each array."""
    keys = np.array(sorted(worth))
    values = np.array([worth[key] for key in keys.tolist()])
    key = np.where(np.all([role > 0 for role in roles], axis=0), _key(*roles), -1)
    at = np.searchsorted(keys, key).clip(max=len(keys) - 1)
    return np.where(keys[at] == key, values[at], np.nan)


def _in_context(found: _Words, hits: np.ndarray) -> np.ndarray:
    """What each word of the lexicon is worth beside its neighbors, shape (hits,)."""
    book = vader()
    role = {shift: found.at(hits, shift, found.role) for shift in (-3, -2, -1, 0, 1, 2)}
    number = book.role
    own = found.lexicon[hits + REACH]
    is_no = role[0] == number["no"]
    worth = np.where(is_no & found.at(hits, 1, found.is_known), 0.0, own)
    linked = np.isin(role[-1], (number["or"], number["nor"]))
    denied = (role[-1] == number["no"]) | (role[-2] == number["no"]) | ((role[-3] == number["no"]) & linked)
    worth = np.where(denied, own * book.negation, worth)
    worth += np.where(found.is_loud[hits + REACH], np.where(worth > 0, book.loudness, -book.loudness), 0.0)
    for distance in (1, 2, 3):
        acts = (found.place[hits] >= distance) & ~found.at(hits, -distance, found.is_known)
        changed = _boosted(found, hits, distance, worth)
        changed = _negated(found, hits, distance, changed, role)
        if distance == REACH:
            changed = _idioms(changed, role)
        worth = np.where(acts, changed, worth)
    least = (role[-1] == number["least"]) & ~found.at(hits, -1, found.is_known)
    spared = (found.place[hits] > 1) & np.isin(role[-2], (number["at"], number["very"]))
    return np.where(least & ~spared, worth * book.negation, worth)


def _boosted(found: _Words, hits: np.ndarray, distance: int, worth: np.ndarray) -> np.ndarray:
    boost = found.at(hits, -distance, found.boost)
    loud = found.at(hits, -distance, found.is_loud) & (boost != 0)
    signed = np.where(worth < 0, -boost, boost)
    signed = signed + np.where(loud, np.where(worth > 0, vader().loudness, -vader().loudness), 0.0)
    return worth + signed * DECAY[distance - 1]


def _negated(
    found: _Words, hits: np.ndarray, distance: int, worth: np.ndarray, role: dict[int, np.ndarray]
) -> np.ndarray:
    number = vader().role
    so = {shift: np.isin(role[shift], (number["so"], number["this"])) for shift in (-1, -2)}
    negates = found.at(hits, -distance, found.negates)
    if distance == 1:
        return np.where(negates, worth * vader().negation, worth)
    never, without = (role[-distance] == number[word] for word in ("never", "without"))
    doubt = role[-1] == number["doubt"]
    raised = never & so[-1]
    if distance == REACH:
        raised = (never & so[-2]) | so[-1]  # as the package has it: "so" before the word is enough
        doubt |= role[-2] == number["doubt"]
    spared = without & doubt
    return np.where(raised, worth * NEVER, np.where(negates & ~spared, worth * vader().negation, worth))


def _idioms(worth: np.ndarray, role: dict[int, np.ndarray]) -> np.ndarray:
    """The worth of the idiom that a word is in, of the first that fits, and boosters of two words."""
    book = vader()
    spans = ((-1, 0), (-2, -1, 0), (-2, -1), (-3, -2, -1), (-3, -2))
    before = [_phrase(tuple(role[shift] for shift in span), book.idioms) for span in spans]
    for values in reversed([*before]):
        worth = np.where(np.isnan(values), worth, values)
    for span in ((0, 1), (0, 1, 2)):
        values = _phrase(tuple(role[shift] for shift in span), book.idioms)
        worth = np.where(np.isnan(values), worth, values)
    for span in ((-3, -2), (-2, -1)):
        worth = worth + np.nan_to_num(_phrase(tuple(role[shift] for shift in span), book.boosters))
    return worth


def _contrasted(found: _Words, hits: np.ndarray, worth: np.ndarray) -> np.ndarray:
    """Halved before the first "but" of a text, half as much again behind it.

    The package looks a worth up by its value: of two equal ones of a text, it changes the first. So does this, one
    column after the other of a matrix (texts with "but", their words of the lexicon).
    """
    text, own = found.words.text, found.role[REACH:-REACH]
    buts = np.flatnonzero(own == vader().role["but"])
    first = np.full(found.words.texts, -1)
    first[text[buts[::-1]]] = buts[::-1]
    concerned = np.flatnonzero((first[text[hits]] >= 0) & (worth != 0))
    if not len(concerned):
        return worth
    texts, row = np.unique(text[hits[concerned]], return_inverse=True)
    column = np.arange(len(row)) - np.searchsorted(row, row)
    values = np.zeros((len(texts), column.max() + 1))
    values[row, column] = worth[concerned]
    factor = np.ones_like(values)
    factor[row, column] = np.where(hits[concerned] < first[text[hits[concerned]]], BUT_BEFORE, BUT_AFTER)
    rows = np.arange(len(texts))
    for at in range(values.shape[1]):
        equal = np.argmax(values == values[:, at : at + 1], axis=1)
        values[rows, equal] *= factor[rows, equal]
    worth[concerned] = values[row, column]
    return worth
