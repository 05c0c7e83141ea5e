"""Themes: phrases that many people use, with nothing in them that could name one of them.

A phrase is two or three words of letters that stand side by side in an English text, none of them a stop word. Left
out are words that are mostly written with a capital inside a sentence, as names are, and phrases of fewer than PERSONS
people.
"""

import polars as pl

PERSONS = 5
MOST = 100  # phrases
SIGNS = '.!?,;:()[]"*\n'
ENDS, BEGINS = r"[.!?,;:)\]\"*\n]$", r"^[(\[\"*\n]"  # of a word: a phrase ends behind it, or before it


def _words(listed: str) -> frozenset[str]:
    return frozenset(listed.split())


STOP = _words("""
    a an the and or but if then than that this these those it its it's is are was were be been being am i i'm
    i've i'll you your you're he she we they them their there here my me our us of in on at to for from by with
    without about as into over under not no nor so too very just also only can could will would should may might
    must do does did don't doesn't didn't has have had having what which who whom whose when where why how all
    any some each every more most other such own same up down out off again once because while until through
    during before after above below between both few let get got please thank thanks hello hi dear regards
""")
THEMES_SCHEMA = {"phrase": pl.String, "texts": pl.Int64, "persons": pl.Int64, "sentiment": pl.Float64}


def themes(texts: pl.DataFrame) -> pl.DataFrame:
    """The most frequent phrases, most persons first: the columns of THEMES_SCHEMA, at most MOST rows.

    texts      `text`, `person` String, `sentiment` Float64 (-1 to 1): English texts
    texts      of a phrase: in how many it is; persons: how many different people wrote it, at least PERSONS
    sentiment  the mean of those texts
    """
    words = (
        texts.with_row_index("number")
        .with_columns(raw=pl.col("text").str.extract_all(r"\S+|\n"))
        .drop("text")
        .explode("raw", empty_as_null=False, keep_nulls=False)
        .with_columns(bare=pl.col("raw").str.strip_chars(SIGNS), is_end=pl.col("raw").str.contains(ENDS))
        .with_columns(is_end=pl.col("is_end") | pl.col("raw").shift(-1).str.contains(BEGINS).fill_null(True))
        .with_columns(sentence=pl.struct("number", pl.col("is_end").cast(pl.Int64).cum_sum().shift(1, fill_value=0)))
        .with_columns(word=pl.col("bare").str.to_lowercase(), place=pl.int_range(pl.len()).over("sentence"))
    )
    is_plain = pl.col("word").str.contains(r"^[a-z]+(?:['-][a-z]+)*$") & (pl.col("word").str.len_chars() > 1)
    is_left_out = pl.col("word").is_in(list(STOP)) | pl.col("word").is_in(_names(words).implode())
    return _frequent(words.with_columns(is_word=is_plain & ~is_left_out))


def _names(words: pl.DataFrame) -> pl.Series:
    """Words that, inside a sentence, begin with a capital in most of their uses."""
    inside = words.filter(pl.col("place") > 0)
    capital = pl.col("bare").str.contains(r"^\p{Lu}\p{Ll}")
    return inside.group_by("word").agg(share=capital.mean()).filter(pl.col("share") > 0.5)["word"]


def _frequent(words: pl.DataFrame) -> pl.DataFrame:
    found = []
    for size in (2, 3):
        following = [pl.col("word").shift(-step).over("sentence") for step in range(size)]
        whole = pl.all_horizontal([pl.col("is_word").shift(-step).over("sentence") for step in range(size)])
        phrase = pl.concat_str(following, separator=" ")
        found.append(words.select("number", "person", "sentiment", phrase=phrase, whole=whole))
    phrases = pl.concat(found).filter("whole").unique(["number", "phrase"], maintain_order=True)
    counted = phrases.group_by("phrase").agg(
        texts=pl.len().cast(pl.Int64),
        persons=pl.col("person").drop_nulls().n_unique().cast(pl.Int64),
        sentiment=pl.col("sentiment").sort().mean(),
    )
    often = counted.filter(pl.col("persons") >= PERSONS).sort(
        "persons", "texts", "phrase", descending=[True, True, False]
    )
    return often.head(MOST).select(THEMES_SCHEMA.keys())
