"""Values on one line of YAML: read again they are the same."""

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from pipelines.settings.yaml_line import flow
from transforms.strict_yaml import load

# No lone surrogates: a file is UTF-8.
texts = st.text(st.characters(codec="utf-8"), max_size=12)
scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | texts
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3), max_leaves=8
)


@given(values)
@example({"no": "yes", "null": "1e5", "a b": ["1h", "12:30:00", "2026-03-01", "~", "", " a", "a: b", "# c", "é 😀"]})
@example([1e16, 1e-7, -0.0, 10**30, "\x7f", "\x85", "\u2028", "a\nb", "0x1f", "1_000"])
def test_what_is_written_is_read_as_the_same(value):
    text = flow(value)
    assert "\n" not in text
    assert load(f"value: {text}\n", dict, "x") == {"value": value}


def test_ordinary_words_and_durations_stand_without_quotes():
    assert flow({"bucket": "1h", "zone": "Europe/London", "of": ["page_view", 3]}) == (
        "{bucket: 1h, zone: Europe/London, of: [page_view, 3]}"
    )


@pytest.mark.parametrize("text", ["no", "On", "null", "1e5", "y", "12:30"])
def test_a_text_is_a_text_for_other_readers_too(text):
    assert yaml.safe_load(f"value: {flow(text)}") == {"value": text}
