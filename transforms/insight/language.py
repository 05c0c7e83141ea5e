"""Which language a text is in. It comes before the sentiment, as the lexicon knows English only.

Most English texts are recognized by words that are frequent in English and no words of other languages ("the",
"would"). The others are classified by the model of `py3langid` (`language_model.py`). A text in two languages, one in
another script, and one too short to tell are not taken for English; one with a word such as "café" may be.
"""

import numpy as np
import polars as pl

from transforms.insight.language_model import classified
from transforms.insight.tokens import Tokens, tokens
from transforms.insight.valence import vader

ENGLISH = "en"
UNDETERMINED = "und"  # the code of ISO 639-2 for a language that cannot be told
# Probabilities that the model gives: a lower one needs more English words. SURE is for texts with other letters.
SURE, CERTAIN, LIKELY, POSSIBLE = 0.9, 0.5, 0.3, 0.1
NAMED = 0.3  # the probability from which the language of a text that is not scored is named


def _words(listed: str) -> list[str]:
    return listed.split()


# Frequent words of English, most of them 16 times as frequent there as in any of 41 other languages.
OWN = _words("""
    the and that with but this it's its from about than what who would they when some their there your which how
    could i'm don't should because can't doesn't those these didn't isn't wasn't won't wouldn't couldn't aren't
    haven't hasn't you're they're we're i've you've i'll you'll that's what's there's he's she's let's through
    though thought really every everything nothing something anything anyone someone always never again before
    after while where why into much other only still very been were being does did make makes made know think
    together enough thanks thank please without working works our he'd she'd we'd they'd i'd you'd it'll we'll
    they'll she'll he'll we've they've who's here's how's where's hadn't gonna wanna gotta his she himself
    herself themselves yourself myself itself another both each either neither few many says said seen going
    getting having people now found feel keep might until called different yet mean tell small took came went
    less everyone trying using means wrong remember needs probably saying understand comes looks wanted wait
    leave buy rather reason whether behind quite talking sometimes heard goes instead seems thinking wants hear
    especially happen happened happens problems needed result takes finally worse longer received worked exactly
    usually whatever cannot looked serious decided turned forget below missing despite interesting nearly
    recently difficult difference yesterday finished stupid broke bought damage feels easily opened caused
    helped helpful wonderful useful worried ordered returned customers purchase waste tired unfortunately
    recommend enjoyed expected expensive great awful quickly arrived thing things loved hated annoying annoyed
    amazingly failed failing crashes crashed keeps cancelled early poorly badly entire fully definitely totally
    absolutely completely beautiful surprised such here back down own watching bigger else theirs although
    however whose whom upon within toward towards against among during around almost already often response
    applause serves
""")
# Words of English that may be words of other languages; alone they do not make a text English.
SHARED = _words("""
    it you is of for have are was my just we so all be i like get love good not has had will me more out can on
    in a an to
""")
# Frequent words of other languages, none of them English.
FOREIGN = _words("""
    de la le les des et est une que qui el los las por para con una es der das und ist nicht ein eine ich wir zu
    mit il di che non del sono het een ik niet dat och att det som jag jeg og ikke er nie jest się bir ve için
    yang ini itu untuk tidak ang ng mga ako dei dem na ne je da se si su du au pas pour dans sur avec mais ce
    cette nous vous muy pero como esta este todo auf fur sehr aber auch noch schon muito uma nao nem mas isso
    voor maar ook zijn heel mycket inte med av til lah sabi abeg dey wetin
""")
# Spellings that are frequent in English and rare elsewhere, and words so spelled that other languages have taken over.
WITHIN = "th|sh|ck|gh|wh|oo|ee|ea|ou|ow|aw|ew|ay|ppy|rr|mn"
SPELLING = f"{WITHIN}|[^aeiou]y$|ing$|ly$|ness$|ful$|less$|ed$|ate$|ss$|^(?:bad|lol)$"
LENT = _words("""
    cool sorry wow super party baby sexy hobby fair okay ok yeah show story happy crazy easy boy team steak
    fitness wellness business stress dress express boss miss
""")
OTHER_LETTERS = r"[\p{L}--\p{ASCII}]"
OTHER_SCRIPT = r"[\p{L}--\p{Latin}]"
BORROWED = 0.2  # the most of the words of an English text that have letters English has not: "café", "François"
NAMES = r"(?:https?://|www\.)\S+|[@#]\S+|&\w+;"  # what is not a language: addresses, mentions, tags, entities


def languages(texts: pl.Series, words: Tokens | None = None) -> pl.Series:
    """The language of each text, `language` String: a code of ISO 639, `en` only where that is sure, else `und`.

    texts   String without null
    words   their words, if they are known
    """
    counts = _counts(words or tokens(texts)).with_columns(is_clear=_is_clear())
    is_open = ~counts["is_clear"]
    language, probability = _classified(texts.filter(is_open))
    is_foreign = (pl.col("language") != ENGLISH) & (pl.col("probability") >= NAMED)
    answer = pl.when(_is_english()).then(pl.lit(ENGLISH)).when(is_foreign).then("language")
    answers = counts.filter(is_open).with_columns(language=language, probability=probability)
    result = np.full(len(texts), ENGLISH, dtype=object)
    result[is_open.to_numpy()] = answers.select(answer.otherwise(pl.lit(UNDETERMINED))).to_series().to_numpy()
    return pl.Series("language", result, dtype=pl.String)


def _counts(words: Tokens) -> pl.DataFrame:
    """Of each text: how many words are `own`, `shared`, `felt`, `foreign`, how many have letters that are `other` than
    English ones or of another `script`, and how many there are (`words`). Float64."""
    lower = words.known["lower"].str.replace_all("\u2019", "'", literal=True)
    is_name = words.known["raw"].str.contains(r"^[@#]|://")
    kinds = {
        "own": lower.is_in(OWN),
        "shared": lower.is_in(SHARED),
        "felt": _felt(lower),
        "foreign": lower.is_in(FOREIGN),
        "other": lower.str.contains(OTHER_LETTERS),
        "script": lower.str.contains(OTHER_SCRIPT),
    }
    counts = {name: words.total((of_kind & ~is_name).to_numpy()[words.code]) for name, of_kind in kinds.items()}
    counts["words"] = words.total((~is_name & lower.str.contains("[a-z]")).to_numpy()[words.code])
    return pl.DataFrame(counts)


def _felt(lower: pl.Series) -> pl.Series:
    """Which words are of the lexicon and spelled as only English is."""
    known = vader().words.filter(pl.col("valence").is_not_null())["lower"]
    return lower.is_in(known.implode()) & lower.str.contains(SPELLING) & ~lower.is_in(LENT)


def _is_clear() -> pl.Expr:
    """Whether words alone make a text English: enough of its own ones, or with some shared ones."""
    own, both = pl.col("own"), pl.col("own") + pl.col("shared") + pl.col("felt")
    share = both / pl.col("words")
    enough = (
        ((own >= 2) & (share >= 0.2)) | ((own >= 1) & (both >= 3) & (share >= 0.25)) | ((own >= 1) & (share >= 0.5))
    )
    shared = (pl.col("felt") >= 1) & (both >= 3) & (share >= 0.5)
    return (pl.col("foreign") == 0) & (pl.col("other") == 0) & (enough | shared)


def _is_english() -> pl.Expr:
    """Whether a text is English by the model, by the less of it the more words are, or by its words."""
    words = pl.col("own") * 2 + pl.col("felt") * 2 + pl.col("shared")
    share = words / pl.col("words")
    by_model = (pl.col("language") == ENGLISH) & (
        (pl.col("probability") >= CERTAIN)
        | ((pl.col("probability") >= LIKELY) & (words >= 1))
        | ((pl.col("probability") >= POSSIBLE) & (words >= 2))
    )
    by_words = (words >= 2) & (share >= 0.5) & ((pl.col("probability") < NAMED) | (pl.col("language") == "pcm"))
    few = (pl.col("foreign") == 0) | ((pl.col("foreign") == 1) & (words >= 4) & (pl.col("language") == ENGLISH))
    plain = pl.col("other") == 0
    borrowed = (pl.col("script") == 0) & (pl.col("own") >= 2) & (pl.col("other") <= BORROWED * pl.col("words"))
    surely = (pl.col("language") == ENGLISH) & (pl.col("probability") >= SURE)
    return few & ((plain & (by_model | by_words)) | (borrowed & surely))


def _classified(texts: pl.Series) -> tuple[pl.Series, pl.Series]:
    """The language that the model takes each text for, String, and how probable it is, Float64."""
    distinct = texts.unique(maintain_order=True)
    language, probability = classified(distinct.str.replace_all(NAMES, " "))
    answers = pl.DataFrame({"text": distinct, "language": language, "probability": probability})
    all_of_them = texts.to_frame("text").join(answers, on="text", how="left", maintain_order="left")
    return all_of_them["language"], all_of_them["probability"]
