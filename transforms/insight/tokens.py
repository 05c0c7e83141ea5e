"""Texts as arrays of words, so that rules about neighboring words are shifts of an array.

A word is what stands between blanks, without the punctuation around it; what would be left with two characters or fewer
keeps its punctuation, as it may be an emoticon: the tokens of VADER (`vaderSentiment` 3.3.2, class SentiText).
"""

import string
from typing import NamedTuple

import numpy as np
import polars as pl

BLANKS = r"[\s\x1c-\x1f]"  # what str.split of Python splits at
SHORT = 2  # characters: what is left of an emoticon


class Tokens(NamedTuple):
    """The words of some texts, text after text.

    text      the number of each word's text, shape (words,), int64, ascending
    place     its place in the text, from 0, shape (words,), int64
    code      its row in `known`, shape (words,), int64
    known     each distinct word once: `raw` (as the text has it), `word`, `lower` String, `is_upper` Boolean
    texts     how many texts there are, those without a word included
    """

    text: np.ndarray
    place: np.ndarray
    code: np.ndarray
    known: pl.DataFrame
    texts: int

    def total(self, amounts: np.ndarray) -> np.ndarray:
        """The sum of an amount of each word, shape (words,), over each text: shape (texts,), float64."""
        return np.bincount(self.text, weights=amounts, minlength=self.texts).astype(np.float64)


def tokens(texts: pl.Series) -> Tokens:
    """The words of these texts, String without null."""
    other = texts.str.contains(r"[\t-\r\x1c-\x1f]|[^\x00-\x7f]").arg_true()
    spaced = texts.rename("text").scatter(other, texts.gather(other).str.replace_all(BLANKS, " "))
    frame = spaced.to_frame().with_row_index("number")
    words = (
        frame.select("number", word=pl.col("text").str.split(" "))
        .explode("word", empty_as_null=False, keep_nulls=False)
        .filter(pl.col("word") != "")
    )
    distinct = words["word"].unique(maintain_order=True)
    code = words["word"].cast(pl.Enum(distinct)).to_physical().to_numpy().astype(np.int64)
    number = words["number"].to_numpy().astype(np.int64)
    size = np.bincount(number, minlength=len(texts))
    first = np.repeat(np.cumsum(size) - size, size)
    return Tokens(number, np.arange(len(number)) - first, code, _known(distinct), len(texts))


def _known(distinct: pl.Series) -> pl.DataFrame:
    bare = pl.col("raw").str.strip_chars(string.punctuation)
    return (
        distinct.rename("raw")
        .to_frame()
        .with_columns(word=pl.when(bare.str.len_chars() > SHORT).then(bare).otherwise("raw"))
        .with_columns(
            lower=pl.col("word").str.to_lowercase(),
            is_upper=pl.col("word").str.contains(r"\p{Uppercase}")
            & ~pl.col("word").str.contains(r"[\p{Lowercase}\p{Lt}]"),
        )
    )
