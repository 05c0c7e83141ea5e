"""The page of a mapping names every key, and its examples are right."""

import pytest

from pipelines.reference.mapping_page import SECTIONS, keys_of_struct, mapping_page
from transforms.mapping import load_mapping

FIELD = next(keys for title, _, keys in SECTIONS if title == "A field")
CALL = next(keys for title, _, keys in SECTIONS if title == "A function with an argument")
CSV = next(keys for title, _, keys in SECTIONS if title == "`csv`")


@pytest.mark.parametrize(("title", "struct", "keys"), SECTIONS, ids=lambda value: value if type(value) is str else "")
def test_every_key_of_a_block_is_on_the_page(title, struct, keys):
    assert list(keys) == keys_of_struct(struct) or set(keys) == set(keys_of_struct(struct))
    for about, example in keys.values():
        assert about[0].isupper() or about.startswith("`")
        assert example


@pytest.mark.parametrize("key", FIELD)
def test_the_examples_of_a_field_are_right(key):
    name = "event_time" if key.startswith("time") else "is_bot" if key == "match" else "value"
    name = "content_id" if key in ("functions", "concat", "hash", "cases", "coalesce", "default") else name
    name = "channel" if key == "const" else "event_type" if key in ("map", "else") else name
    kind = "" if name == "event_type" else "event_type: {const: view}, "
    assert load_mapping(f"source: s\nfields: {{{kind}{name}: {FIELD[key][1]}}}", "m.yaml").fields


@pytest.mark.parametrize("key", CALL)
def test_the_examples_of_a_function_are_right(key):
    example = CALL[key][1]
    assert load_mapping(
        f"source: s\nfields: {{event_type: {{const: view}}, text: {{path: v, functions: [{{{example}}}]}}}}", "m.yaml"
    ).fields


@pytest.mark.parametrize("key", CSV)
def test_the_examples_of_csv_are_right(key):
    beside = {"header": "columns: [a]", "columns": "header: false", "rest": "multiline: false"}
    more = f", {beside[key]}" if key in beside else ', escape: "/"' if key == "escaped_bytes" else ""
    assert load_mapping(
        f"source: s\ncsv: {{{CSV[key][1]}{more}}}\nfields: {{event_type: {{const: view}}}}", "m.yaml"
    ).csv


def test_the_page_names_the_event_types_of_the_shipped_metrics():
    page = mapping_page()
    for kind in ("page_view", "click", "signup", "add_to_cart", "purchase", "refund", "comment"):
        assert f"\n| `{kind}` | " in page
    assert "| `sequence` | INT64 |" in page and "| `event_time` | TIMESTAMP |" in page
