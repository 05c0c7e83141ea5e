"""The model of `py3langid` (142 languages) over arrays of bytes, instead of byte by byte: the same language, the same
probability but for the rounding of float32.

The model is naive Bayes over sequences of up to REACH bytes, which an automaton finds. Its state says nothing of what
is more than REACH bytes back. So a text is cut into pieces of equal length, each begun REACH bytes before, and one step
takes the next byte of all pieces of all texts.
"""

from functools import cache
from typing import Any, NamedTuple

import numpy as np
import polars as pl

REACH = 6  # bytes of the longest sequence that the model knows
PIECE = 32  # bytes of a text that are read one after the other
AT_ONCE = 4096  # sequences whose weights are added up at once: some 2 MB


class _Model(NamedTuple):
    """What the package holds.

    first    the place of each state's moves in `moves`, int64
    moves    the next state by byte, 256 of them in a row
    output   the sequence that ends in each state, int64, -1 for none
    weight   of each sequence and language, shape (sequences, languages), float32
    prior    of each language, float32
    codes    of each language; a code that comes twice is one language
    twins    two places of one language each
    """

    first: np.ndarray
    moves: np.ndarray
    output: np.ndarray
    weight: np.ndarray
    prior: np.ndarray
    codes: pl.Series
    twins: tuple[tuple[int, int], ...]


@cache
def _model() -> _Model:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    read: Any = LanguageIdentifier.from_model_file(MODEL_FILE)
    codes: list[str] = read.nb_classes
    return _Model(
        np.asarray(read.tk_row).astype(np.int64) * 256,
        np.asarray(read.tk_nextmove),
        np.asarray(read.tk_output, dtype=np.int64),
        read.nb_ptc.astype(np.float32),
        read.nb_pc,
        pl.Series(codes, dtype=pl.String),
        tuple((codes.index(code), at) for at, code in enumerate(codes) if codes.index(code) != at),
    )


def classified(texts: pl.Series) -> tuple[pl.Series, pl.Series]:
    """What the model takes each text for: a code of ISO 639, String, and how probable that is, Float64.

    texts   String without null; of one that has none of its sequences every language is as probable
    """
    model = _model()
    shape = (len(texts), len(model.codes))
    if not len(texts):
        return pl.Series([], dtype=pl.String), pl.Series([], dtype=pl.Float64)
    written = _written(texts)
    size = written.str.len_bytes().to_numpy().astype(np.int64)
    content = np.frombuffer(written.str.join("").item().encode(), dtype=np.uint8)
    scores = _scores(*_sequences(content, size), shape)
    scores /= np.sqrt(np.maximum(size, 1)).astype(np.float32)[:, None]
    scores = np.exp(scores - scores.max(axis=1, keepdims=True))
    scores /= scores.sum(axis=1, keepdims=True)
    for one, other in model.twins:
        scores[:, one] += scores[:, other]
        scores[:, other] = 0.0
    best = scores.argmax(axis=1)
    return model.codes.gather(best), pl.Series(scores[np.arange(len(best)), best].astype(np.float64))


def _written(texts: pl.Series) -> pl.Series:
    """The texts as the model reads them: composed, and in lower case if they are in upper case throughout."""
    text = pl.col("text")
    shouted = text.str.contains(r"\p{Uppercase}") & ~text.str.contains(r"[\p{Lowercase}\p{Lt}]")
    composed = pl.when(text.str.contains(r"[^\x00-\x7f]")).then(text.str.normalize("NFC")).otherwise(text)
    lowered = pl.when(shouted).then(text.str.to_lowercase()).otherwise(text).alias("text")
    return texts.to_frame("text").select(lowered).select(composed).to_series()


def _sequences(content: np.ndarray, size: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The number of a text and a sequence that it has, as often as it has it: two arrays of one shape, int64.

    content   the bytes of all texts, text after text, uint8
    size      of each text, in bytes
    """
    model = _model()
    pieces = -(-size // PIECE)
    text = np.repeat(np.arange(len(size)), pieces)
    skipped = PIECE * (np.arange(len(text)) - (np.cumsum(pieces) - pieces)[text])  # of the text, before the piece
    start = (np.cumsum(size) - size)[text] + skipped
    padded = np.concatenate([content, np.zeros(PIECE, dtype=np.uint8)])
    state = np.zeros(len(text), dtype=np.int64)
    later = np.flatnonzero(skipped)
    for at in range(-REACH, 0):
        state[later] = model.moves[model.first[state[later]] + padded[start[later] + at]]
    found = np.empty((PIECE, len(text)), dtype=np.int64)
    for at in range(PIECE):
        state = model.moves[model.first[state] + padded[start + at]]
        found[at] = model.output[state]
    is_own = (found >= 0) & (np.arange(PIECE)[:, None] < (size[text] - skipped)[None, :])
    return np.broadcast_to(text, found.shape)[is_own], found[is_own]


def _scores(text: np.ndarray, sequence: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """How likely each text is in each language, as logarithms without a common base, float32, 0 for nothing found."""
    model = _model()
    key, count = np.unique(text * len(model.weight) + sequence, return_counts=True)
    text, sequence = np.divmod(key, len(model.weight))
    amount = np.log1p(count.astype(np.float32))[:, None]
    scores = np.zeros(shape, dtype=np.float32)
    begin = np.flatnonzero(np.diff(text, prepend=-1))  # of the texts that have a sequence
    end = np.append(begin[1:], len(text))
    scores[text[begin]] = model.prior
    done = 0
    while done < len(begin):
        until = max(done + 1, int(np.searchsorted(end, begin[done] + AT_ONCE, side="right")))
        rows = slice(begin[done], end[until - 1])
        weighed = model.weight[sequence[rows]]
        weighed *= amount[rows]
        scores[text[begin[done:until]]] += np.add.reduceat(weighed, begin[done:until] - begin[done], axis=0)
        done = until
    return scores
