"""Records in JSON that is not one object a line: all of them, at the same places wherever chunks are cut."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.sources.files import documents
from pipelines.sources.files.documents import batches, is_of_documents, records

LEAVES = st.none() | st.booleans() | st.integers() | st.text('a"\\{}[],:é\n', max_size=6) | st.floats(allow_nan=False)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab{é", max_size=3), inner, max_size=3),
    max_leaves=6,
)
OBJECTS = st.lists(st.dictionaries(st.text("ab{é", max_size=3), VALUES, max_size=4), min_size=1, max_size=6)
FORMS = {
    "array": lambda some, **how: json.dumps(some, **how),
    "one behind the other": lambda some, **how: "".join(json.dumps(each, **how) for each in some),
    "with commas": lambda some, **how: "".join(json.dumps(each, **how) + ",\n" for each in some),
    "with blanks": lambda some, **how: " \r\n".join(json.dumps(each, **how) for each in some),
    "an array a line": lambda some, **how: "\n".join(json.dumps([each], **how) for each in some),
    "arrays in an array": lambda some, **how: json.dumps([some[:1], some[1:]], **how),
}


def chunks(data, size):
    return iter([data[at : at + size] for at in range(0, len(data), size)])


def found(text, size=1 << 20, path=()):
    data = text.encode("utf-8", "surrogateescape")
    made = list(records(chunks(data, size), path))
    assert all(data[at : at + len(record)] == record for at, record in made)
    return [record for _, record in made]


@given(OBJECTS, st.sampled_from(list(FORMS)), st.sampled_from([None, 0, 2]), st.booleans(), st.integers(1, 20))
@settings(max_examples=300, deadline=None)
def test_every_object_is_a_record_wherever_chunks_are_cut(some, form, indent, is_ascii, size):
    text = FORMS[form](some, indent=indent, ensure_ascii=is_ascii)
    assert [json.loads(record) for record in found(text, size)] == some


@given(OBJECTS, VALUES, VALUES, st.sampled_from([None, 1]), st.integers(1, 20))
@settings(max_examples=200, deadline=None)
def test_the_elements_of_the_list_that_is_stated_are_the_records(some, before, after, indent, size):
    one = {"x": before, "page": {"y": [before], "events": some, "z": after}, "events": [{"no": 1}], "w": after}
    for text in (json.dumps(one, indent=indent) * 2, json.dumps([one, one], indent=indent)):
        assert [json.loads(record) for record in found(text, size, ("page", "events"))] == some * 2


def test_a_document_without_the_list_is_a_record():
    text = '{"events": [{"a": 1}]}\n{"a": 2}\n{"events": {"a": 3}}\n{"events": []}'
    assert found(text, path=("events",)) == [b'{"a": 1}', b'{"a": 2}', b'{"events": {"a": 3}}']


def test_a_list_beyond_the_longest_record_is_read_in_pieces(monkeypatch):
    monkeypatch.setattr(documents, "RECORD_LIMIT", 1_000)
    some = [{"id": n, "text": "x" * 50} for n in range(500)]
    text = json.dumps({"other": [{"id": -1}] * 500, "s": "y" * 5_000, "events": some, "last": [[1] * 900]})
    assert [json.loads(record) for record in found(text, 100, ("events",))] == some


GOOD = [json.dumps({"id": n, "n": [{"id": 1}, {"x": [1, 2]}], "t": "a,]}{"}) for n in range(6)]


@pytest.mark.parametrize(
    "bad",
    [
        '{"id":9,"x":"abc}',
        '{"id":9,"x":{"a":1}',
        '{"id":9,"x":1,}',
        '{"id":9 "x":1}',
        '{"id":9,"x":tru}',
        "garbage",
        '{"id":9}}',
        '{"id":9]}',
        '"text"',
        '{"id":\udcff',
    ],
)
@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize("size", [11, 1 << 20])
def test_what_is_no_json_costs_itself(bad, indent, size):
    good = [json.dumps(json.loads(text), indent=indent) for text in GOOD]
    lines = ",\n".join([*good[:3], bad, *good[3:]])
    made = [record.decode("utf-8", "surrogateescape") for record in found(f"[\n{lines}\n]", size)]
    assert [record for record in made if record in good] == good
    others = [record for record in made if record not in good]
    assert len(others) == 1
    assert others[0].rstrip(",") in bad


@pytest.mark.parametrize("bad", ['{"id":9,"x":{"a":1}', '{"id":9,"x":1,}', "garbage", '{"id":9}}'])
def test_what_is_no_json_costs_itself_where_all_is_on_one_line(bad):
    made = [record.decode() for record in found("[" + ",".join([*GOOD[:3], bad, *GOOD[3:]]) + "]", 50)]
    assert [record for record in made if record in GOOD] == GOOD
    assert len(made) == len(GOOD) + 1


@pytest.mark.parametrize(
    "text",
    [
        "[" + "{a}," * 20_000,
        '[{"a":1},' + '{"b,' * 20_000,
        '{"a":[' * 20_000,
        "[\n" + '{"a":[\n' * 20_000,
        "[" * 100_000,
        '{"a":1}' + "x " * 50_000,
        '{"q":' + "[1," * 30_000,
        '"' + "\\" * 50_001,
        "[" + "1" * 50_000 + "]",
    ],
    ids=lambda text: text[:8],
)
def test_hostile_text_ends(monkeypatch, text):
    steps = []
    decode = documents._decode
    monkeypatch.setattr(documents, "_decode", lambda *given: steps.append(1) or decode(*given))
    sum(1 for _ in records(chunks(text.encode(), 4_096), ()))
    sum(1 for _ in records(chunks(text.encode(), 4_096), ("q", "z")))
    assert len(steps) < 200_000


def test_a_value_that_is_too_long_is_told_by_its_first_bytes(monkeypatch):
    monkeypatch.setattr(documents, "RECORD_LIMIT", 100)
    made = found('[{"a": 1},\n{"a": "' + "x" * 1_000 + '"},\n{"a": 2}]', 10)
    assert made[0] == b'{"a": 1}'
    assert made[-1] == b'{"a": 2}'
    assert all(len(record) == 101 for record in made[1:2])


def test_blocks_hold_so_many_records_and_bytes():
    text = json.dumps([{"n": n} for n in range(100)]).encode()
    by_rows = list(batches(iter([text]), (), 1 << 20, 30, 3))
    assert [batch.starts.size for batch in by_rows] == [30, 30, 30, 10]
    assert by_rows[0].offsets[0] == 4
    assert all(len(batch.data) <= 100 for batch in batches(iter([text]), (), 100, 1_000))


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (b'{"a": 1}\n{"a": 2}\n', False),
        (b'{"a": 1}', False),
        (b'{"a": 1}\n{"a": \n{"a": 3}\n', False),
        (b'{"a": 1\n', False),
        (b'{"a": 1}\n{\n{\n', False),
        (b'{"page": {\n "tags": [\n{}\n]}}\n', True),
        (b"", False),
        (b"a,b\n", False),
        (b"[1, 2]\n", True),
        (b'{"a": 1}{"a": 2}\n{"a": 3}{"a": 4}\n', True),
        (b'{\n "a": 1\n}\n', True),
        (b'{"a": 1},\n{"a": 2},\n', True),
    ],
)
def test_a_file_of_lines_stays_one(head, expected):
    assert is_of_documents(head, True) is expected


def test_objects_within_a_record_that_is_no_json_are_no_records():
    good = [json.dumps({"id": n, "items": [{"id": 7}, {"id": 8}]}, indent=1) for n in range(3)]
    bad = good[1].replace('"id": 1,', '"id": 1 "x": 2,')
    made = [record.decode() for record in found("[\n" + ",\n".join([good[0], bad, good[2]]) + "\n]")]
    assert made == [good[0], f"{bad},", good[2]]
