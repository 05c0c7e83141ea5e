"""Themes: phrases of at least five people, without what could name one of them."""

import polars as pl

from transforms.insight.themes import THEMES_SCHEMA, themes

SCHEMA = {"text": pl.String, "person": pl.String, "sentiment": pl.Float64}


def found(texts: list[str], persons: list[str | None] | None = None) -> dict[str, tuple]:
    who = persons or [f"p{at}" for at in range(len(texts))]
    frame = pl.DataFrame(
        {"text": texts, "person": who, "sentiment": [0.5, -0.5] * (len(texts) // 2) + [0.5] * (len(texts) % 2)}
    )
    return {row[0]: row[1:] for row in themes(frame.cast(SCHEMA)).rows()}


def test_a_phrase_of_five_people_is_a_theme_and_one_of_four_is_not():
    texts = [
        "The video player is slow.",
        "Your video player stops",
        "video player, again",
        "a Video player",
        "video player!",
    ]
    assert found(texts) == {"video player": (5, 5, 0.1)}
    assert found(texts[:4]) == {}
    assert found(texts, ["a", "b", "c", "d", "d"]) == {}
    assert found(texts, ["a", "b", "c", "d", None]) == {}


def test_a_phrase_ends_at_a_stop_word_and_at_a_sign():
    assert found(["player of video", "delivery. Slow checkout", "too slow, checkout fails"] * 5) == {
        "slow checkout": (5, 5, -0.1),
        "checkout fails": (5, 5, 0.1),
    }


def test_three_words_are_a_phrase_too():
    assert set(found(["dark mode missing"] * 5)) == {"dark mode", "mode missing", "dark mode missing"}


def test_no_address_number_or_name_is_in_a_theme():
    texts = [
        "please write anna.smith@shop.example today",
        "my number 0171 5551234 rings",
        "we talked to Anna Smith yesterday",
        "lives at 12 Mill Lane today",
        "order AB12345 never came",
        "see https://shop.example/me now",
    ] * 6
    assert [
        phrase for phrase in found(texts) if any(each in phrase for each in ("anna", "smith", "mill", "lane", "shop"))
    ] == []
    assert [phrase for phrase in found(texts) if any(sign in "0123456789@/" for sign in phrase)] == []
    assert "never came" in found(texts)


def test_a_phrase_counts_once_in_a_text_and_the_order_of_texts_does_not_matter():
    texts = ["dark mode dark mode", "dark mode", "want dark mode", "dark mode please", "where dark mode"]
    assert found(texts)["dark mode"] == (5, 5, 0.1)
    frame = pl.DataFrame({"text": texts, "person": list("abcde"), "sentiment": [0.1, 0.2, 0.3, 0.4, 0.5]}).cast(SCHEMA)
    assert themes(frame.reverse()).equals(themes(frame))


def test_no_text_gives_no_theme_with_the_columns_all_the_same():
    assert themes(pl.DataFrame(schema=SCHEMA)).schema == pl.Schema(THEMES_SCHEMA)
