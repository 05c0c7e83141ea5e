"""Sentiment equals that of the library, text by text; what is in another language, or cannot be told, is not scored."""

import itertools
import random
import unicodedata

import numpy as np
import polars as pl
import pytest
from py3langid.langid import MODEL_FILE, LanguageIdentifier
from vaderSentiment.vaderSentiment import BOOSTER_DICT, NEGATE, SPECIAL_CASES, SentimentIntensityAnalyzer

from transforms.insight.language import languages
from transforms.insight.language_model import PIECE, classified
from transforms.insight.sentiment import SENTIMENT_SCHEMA, sentiment
from transforms.insight.valence import valence

# Texts in other languages, as customers write them: 25 languages, some with words that English has too.
OTHERS = {
    "de": [
        "Das ist super, vielen Dank!",
        "Leider war die Lieferung sehr spät.",
        "Alles gut, gerne wieder.",
        "Nicht zu empfehlen",
    ],
    "fr": [
        "C'est excellent, merci beaucoup",
        "Très déçu par le service",
        "Livraison rapide, parfait",
        "La commande est perdue",
    ],
    "es": ["Muy bueno, gracias", "El envío fue terrible y nadie contesta", "No me gusta nada", "Excelente producto"],
    "it": ["Ottimo prodotto, lo consiglio", "Il pacco non è mai arrivato", "Servizio fatale", "Molto bene, grazie"],
    "pt": ["Muito bom, obrigado", "O produto chegou quebrado", "Não recomendo a ninguém"],
    "nl": ["Snel geleverd en goede service", "Was het maar zo goed", "Ik ben niet tevreden over de kwaliteit"],
    "sr": ["Tek je pet minuta od sad", "Одлично, the best of all and everything"],
    "sv": ["Det var inte bra alls", "Mycket bra, tack så mycket"],
    "da": ["Det er en god oplevelse", "Jeg er ikke tilfreds med det"],
    "nb": ["Veldig bra, men dyrt", "Jeg får ikke hjelp"],
    "fi": ["Erittäin hyvä palvelu", "Tilaus ei ole vieläkään tullut"],
    "pl": ["Bardzo dobrze, polecam", "Nie działa na moim telefonie"],
    "cs": ["Velmi dobrý obchod", "Zboží nikdy nedorazilo"],
    "hu": ["Nagyon jó, köszönöm", "Nem vagyok elégedett"],
    "ro": ["Foarte bun, recomand", "Nu sunt multumit de produs"],
    "tr": ["Çok güzel, teşekkürler", "Ürün bozuk geldi"],
    "id": ["Barang sudah sampai, terima kasih", "Saya kecewa dengan layanan ini"],
    "vi": ["Rất tốt, cảm ơn", "Hàng giao quá chậm"],
    "ru": ["Очень хорошо, спасибо", "Ужасный сервис"],
    "uk": ["Дуже добре, дякую"],
    "el": ["Πολύ καλό, ευχαριστώ"],
    "ja": ["とても良いです", "最悪のサービス"],
    "zh": ["非常好,谢谢", "太差了"],
    "ko": ["정말 좋아요", "최악이에요"],
    "ar": ["ممتاز جدا شكرا"],
    "hi": ["बहुत अच्छा धन्यवाद"],
}
ENGLISH = [
    "I love how search is fast and easy. Thank you!",
    "The checkout is slow and keeps failing.",
    "My payment was taken twice since yesterday. Can you check?",
    "This doesn't work on my phone and nobody answers.",
    "Where was this filmed?",
    "The café on the corner is lovely, and they know François by name.",
    "Wrong.",
]


def library(texts: list[str]) -> list[float]:
    analyzer = SentimentIntensityAnalyzer()
    return [analyzer.polarity_scores(text)["compound"] for text in texts]


def sentences(count: int, seed: int) -> list[str]:
    """Sentences of words that its rules name, so that each rule is met often, with all their signs."""
    draw = random.Random(seed)
    lexicon = [
        "good",
        "bad",
        "GREAT",
        "horrible",
        "kind",
        "no",
        "shit",
        "bomb",
        "bad",
        "ass",
        "like",
        "doubt",
        "die",
        "right",
    ]
    rules = [
        "but",
        "BUT",
        "least",
        "at",
        "very",
        "never",
        "so",
        "this",
        "without",
        "doubt",
        "or",
        "nor",
        "of",
        "yeah",
        "the",
    ]
    phrases = [*SPECIAL_CASES, *(each for each in BOOSTER_DICT if " " in each)]
    pools = [
        lexicon,
        lexicon,
        rules,
        sorted(BOOSTER_DICT),
        NEGATE,
        phrases,
        ["it", "was", "A", "phone", ":)", ":-(", "<3", "😀", "x😡y"],
    ]
    marks = ["", "", "", "!", "!!", "?", "...", "\t", "\u00a0"]
    return [
        " ".join(draw.choice(draw.choice(pools)) + draw.choice(marks) for _ in range(draw.randint(0, 14))).strip(" ")
        for _ in range(count)
    ]


@pytest.mark.parametrize("seed", range(3))
def test_each_sentence_of_words_that_rules_name_is_scored_as_by_the_library(seed):
    texts = sentences(1500, seed)
    found, expected = valence(pl.Series(texts)), np.array(library(texts))
    off = [(text, a, b) for text, a, b in zip(texts, found, expected, strict=True) if abs(a - b) > 1.01e-4]
    assert off == []
    assert (expected != 0).sum() > 1000


def test_every_pair_of_words_that_rules_name_is_scored_as_by_the_library():
    words = [
        "good",
        "bad",
        "no",
        "least",
        "never",
        "so",
        "kind",
        "of",
        "but",
        "without",
        "doubt",
        "very",
        "NOT",
        "sort",
    ]
    texts = [" ".join(each) for each in itertools.product(words, repeat=3)]
    assert np.abs(valence(pl.Series(texts)) - library(texts)).max() < 1.01e-4


def test_equal_scores_around_but_change_as_in_the_library():
    texts = ["worried good fine but good fine GREAT", "it was good , good but good", "but", "bad but", "But good"]
    assert valence(pl.Series(texts)).tolist() == pytest.approx(library(texts), abs=1e-4)


def test_no_text_of_another_language_is_scored():
    texts = pl.Series([text for texts in OTHERS.values() for text in texts])
    found = sentiment(texts)
    assert texts.filter(found["sentiment"].is_not_null()).to_list() == []
    assert "en" not in found["language"].to_list()


def test_an_emoji_makes_no_text_english():
    texts = pl.Series([f"{text} 😀👍 😡" for text in OTHERS["es"] + OTHERS["ru"] + OTHERS["nl"]])
    assert sentiment(texts)["sentiment"].count() == 0


def test_english_texts_are_scored_with_the_languages_of_others_beside_them():
    found = sentiment(pl.Series([*ENGLISH, OTHERS["de"][1], None]))
    assert found["language"].to_list() == ["en"] * len(ENGLISH) + ["de", "und"]
    assert found["sentiment"].round(4).to_list() == pytest.approx([*library(ENGLISH), None, None])
    assert found.schema == pl.Schema(SENTIMENT_SCHEMA)


def test_nothing_is_in_no_language_and_unscored():
    texts = pl.Series([None, "", " ", "!!!", "12.50", "👍", "https://shop.example/a"], dtype=pl.String)
    assert sentiment(texts).rows() == [("und", None)] * 7
    assert sentiment(pl.Series([], dtype=pl.String)).schema == pl.Schema(SENTIMENT_SCHEMA)


def test_order_and_neighbors_of_a_text_do_not_change_its_language():
    texts = pl.Series([*ENGLISH, *OTHERS["fr"], *OTHERS["nl"]])
    assert languages(texts).to_list() == [languages(pl.Series([text]))[0] for text in texts]


def writings(seed: int) -> list[str]:
    """Texts of many languages and lengths, around the length of a piece too, and letters from everywhere."""
    draw = random.Random(seed)
    whole = [*ENGLISH, *(text for texts in OTHERS.values() for text in texts), "ΟΔΟΣ", "İSTANBUL", "ǅ A", "", " ", "!!"]
    mixed = ["".join(draw.choice(whole) for _ in range(draw.randint(1, 20))) for _ in range(60)]
    cut = [text[:size] for text in mixed[:6] for size in range(PIECE - 2, 2 * PIECE + 3)]
    spans = ((0x20, 0x7E), (0x80, 0x24F), (0x250, 0x2FFF), (0x10000, 0x1F9FF))
    strange = [
        "".join(chr(draw.randint(*draw.choice(spans))) for _ in range(draw.randint(1, 3 * PIECE))) for _ in range(300)
    ]
    apart = [unicodedata.normalize("NFD", text) for text in whole]
    return [*whole, *(text.upper() for text in whole), *mixed, *cut, *strange, *apart]


def test_the_language_is_that_of_the_library():
    texts = writings(1)
    library = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    expected = [library.classify(text) for text in texts]
    language, probability = classified(pl.Series(texts))
    off = [(text, a, b) for text, a, b in zip(texts, language, expected, strict=True) if a != b[0]]
    assert off == []
    assert np.abs(probability.to_numpy() - [each[1] for each in expected]).max() < 1e-4
    assert len(set(language)) > 40
    assert classified(pl.Series([], dtype=pl.String))[0].dtype == pl.String
