"""The sentiment of texts that people write: comments, feedback, tickets.

A text is scored only in a language that has a lexicon, English; any other text is unscored, which is not neutral.
"""

import polars as pl

from transforms.insight.language import ENGLISH, UNDETERMINED, languages
from transforms.insight.tokens import tokens
from transforms.insight.valence import described, valence_of_tokens

POLAR = (
    0.05  # from here on a text is positive, down from its negative negative: the thresholds that VADER's authors give
)
SENTIMENT_SCHEMA = {"language": pl.String, "sentiment": pl.Float64}


def sentiment(texts: pl.Series) -> pl.DataFrame:
    """Language and sentiment of each text, in their order: a row a text, the columns of SENTIMENT_SCHEMA.

    texts       String; null, and what has no letter, is in no language
    language    a code of ISO 639; `und` if it cannot be told
    sentiment   VADER's compound, -1 to 1; null: unscored, as the language is not English
    """
    distinct = texts.rename("text").drop_nulls().unique(maintain_order=True)
    spoken = described(distinct)
    words = tokens(spoken)
    language = languages(distinct, words if spoken is distinct else None)  # emojis are described in English
    is_english = language == ENGLISH
    scores = pl.Series("sentiment", valence_of_tokens(spoken, words)).set(~is_english, None)
    answers = pl.DataFrame({"text": distinct, "language": language, "sentiment": scores})
    asked = texts.rename("text").cast(pl.String).to_frame()
    return asked.join(answers, on="text", how="left", maintain_order="left").select(
        pl.col("language").fill_null(UNDETERMINED), "sentiment"
    )
