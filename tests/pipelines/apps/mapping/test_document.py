"""What is written as YAML is read back as it was, whatever characters it holds."""

from hypothesis import given
from hypothesis import strategies as st

from pipelines.apps.mapping.document import Line, document
from transforms.mapping import load_mapping

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40)
KEYS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="'\""), min_size=1, max_size=40)


@given(key=KEYS, words=st.lists(TEXTS, min_size=1, max_size=4, unique=True), comment=TEXTS)
def test_paths_and_words_of_any_characters_come_back_and_comments_end_with_their_line(key, words, comment):
    table = dict.fromkeys(words, "click")
    fields = [
        Line(
            "event_type", {"path": f"['{key}']", "map": table, "else": "other"}, comment, dict.fromkeys(words, comment)
        ),
        Line("user_id", {"concat": [{"path": f"['{key}']"}, {"const": words[0]}]}, comment),
    ]
    mapping = load_mapping(document([Line("source", "x")], fields, [comment], [comment]), "x")
    assert (mapping.fields.event_type.path, mapping.fields.event_type.map) == (f"['{key}']", table)
    assert [part.const for part in mapping.fields.user_id.concat] == [None, words[0]]


def test_words_that_yaml_takes_for_something_else_stay_words():
    words = ["true", "null", "No", "~", "1", "1.5", "2026-03-01", "a: b", "# a", "- a", "", "<<", "a.b"]
    fields = [Line("event_type", {"path": "a", "map": dict.fromkeys(words, "click")})]
    fields += [Line("category", {"concat": [{"const": word} for word in words]})]
    mapping = load_mapping(document([Line("source", "x")], fields), "x")
    assert list(mapping.fields.event_type.map) == words
    assert [part.const for part in mapping.fields.category.concat] == words


def test_a_comment_that_a_line_has_no_room_for_stands_above_it():
    lines = document([], [Line("text", {"path": "a"}, "word " * 60)]).splitlines()
    assert lines[-1] == "  text: {path: a}"
    assert len(lines) > 3
    assert all(line.startswith("  # ") for line in lines[1:-1])
