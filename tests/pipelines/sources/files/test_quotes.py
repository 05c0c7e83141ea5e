"""Records of CSV with quotes: the same wherever bytes are cut, and a quote that is a mistake costs one line."""

import contextlib
import csv
import io
import json

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from msgspec import structs

from pipelines.sources.files import quotes
from pipelines.sources.files import read as files
from pipelines.sources.files.discover import find_files
from pipelines.sources.files.quotes import newlines_of
from pipelines.sources.files.read import CsvFormat, cut, read
from pipelines.sources.files.split import batches, pieces
from transforms.errors import SourceError
from transforms.records.csv_rows import form_of, rows_of
from transforms.records.payloads import RECORD_LIMIT, read_records

COMMA = CsvFormat(delimiter=",")
ABC = CsvFormat(delimiter=",", header=False, columns=("a", "b", "c"))
MB = 1 << 20


def end_of(text, start, layout):
    """The newline that ends a record that can be read, read character by character; None if it cannot."""
    at, fields, quote, escape = start, 1, layout.quote, layout.escape
    while True:
        if quote and text.startswith(quote, at):
            at += 1
            while not (text.startswith(quote, at) and not text.startswith(quote * 2, at)):
                at += 2 if text[at : at + 1] in (escape or "none", quote) else 1
                if at >= len(text):
                    return None
            at += 1
            at += text.startswith("\r\n", at) or text[at:] == "\r"
            if at < len(text) and text[at] not in (layout.delimiter, "\n"):
                return None
        else:
            while at < len(text) and text[at] not in (layout.delimiter, "\n"):
                if text[at] == "\r":
                    if text[at + 1 :] and not text.startswith("\r\n", at):
                        return None
                    at += 1
                    break
                at += 2 if escape and text[at] == escape else 1
                if at > len(text):
                    return None
        if at == len(text) or text[at] == "\n":
            return at if fields == len(layout.columns) or not layout.columns else None
        at, fields = at + 1, fields + 1


def expected_of(text, layout):
    """[(line, payload)] of a text: a record of several lines, or a line."""
    found, start = [], 0
    while start < len(text):
        line_end = text.find("\n", start)
        line_end = len(text) if line_end < 0 else line_end
        end = end_of(text, start, layout)
        end = line_end if end is None else end
        payload = text[start:end].removesuffix("\r")
        if payload:
            found.append((text.count("\n", 0, start) + 1, payload))
        start = end + 1
    return found


def cut_rows(data, layout, block_bytes, chunk):
    chunks = [data[start : start + chunk] for start in range(0, len(data), chunk)]
    found = batches(pieces(chunks, block_bytes, layout), layout, block_bytes)
    return [
        (int(line), batch.data[start:stop].decode())
        for batch in found
        for line, start, stop in zip(batch.lines, batch.starts, batch.stops, strict=True)
    ]


LAYOUTS = [COMMA, ABC, CsvFormat(delimiter=",", escape="\\"), CsvFormat(",", "", header=False, columns=("a", "b"))]
MORE = [CsvFormat(delimiter=",", escape="\\", header=False, columns=("a", "b")), CsvFormat(",", "", escape="\\")]


@given(
    st.text('a,"\n\r\\', max_size=60),
    st.sampled_from(LAYOUTS + MORE),
    st.integers(1, 30),
    st.integers(1, 9),
)
@example('b",""",\nb",""",\nb",""",\n', ABC, 5, 3)
@example('"",,\n",\n",\n', ABC, 4, 2)
@settings(max_examples=500, deadline=None)
def test_records_are_those_that_can_be_read_else_lines_wherever_bytes_are_cut(text, layout, block_bytes, chunk):
    text = text.replace("\r", "") if layout.escape else text  # which the csv module reads in other ways
    expected = expected_of(text, layout)
    assert cut_rows(text.encode(), layout, block_bytes, chunk) == expected
    if not layout.columns and not layout.escape and "\r" not in text.replace("\r\n", ""):
        with contextlib.suppress(csv.Error):  # a text without mistakes has the records of the csv module
            rows = [row for row in csv.reader(io.StringIO(text, newline=""), strict=True) if row]
            assert [next(csv.reader([payload])) for _, payload in expected] == rows
    for _, payload in expected:
        if "\n" in payload:
            assert len(list(rows_of([payload], form_of(layout)))) == 1


def written(tmp_path, data, name="x.csv"):
    path = tmp_path / name
    path.write_bytes(data)
    return path


def blocks(path, csv=CsvFormat(), block_bytes=files.BLOCK_BYTES):  # noqa: B008
    [file] = find_files([str(path)])
    return [block for part in cut(file, csv, block_bytes) for block in read(part, "shop", csv, block_bytes)]


def records_of(path, csv=CsvFormat(), block_bytes=files.BLOCK_BYTES):  # noqa: B008
    """(the records, the payloads that are refused) of a file."""
    good, bad = [], []
    for block in blocks(path, csv, block_bytes):
        ready = block.with_columns(input=None, quarantine_id=None, attempt=1, part=0)
        records, _, rejected = read_records(ready)
        good += list(records)
        bad += rejected["payload"].to_list()
    return good, bad


LINES = [f"{n},2026-03-01T10:00:00Z,/p{n},{n % 7}" for n in range(3_000)]
HEAD = "id,at,page,n"


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("at", [0, 1_500, 2_999])
@pytest.mark.parametrize("others", ["none", "quoted", "several lines"])
@pytest.mark.parametrize("block_bytes", [4_000, files.BLOCK_BYTES])
def test_a_stray_quote_costs_its_own_line(tmp_path, at, end, others, block_bytes):
    lines = list(LINES)
    if others != "none":
        text = '"a ""b"", c"' if others == "quoted" else f'"a{end}b,""{end}c"'
        for n in range(0, 3_000, 9):
            lines[n] = f"{n},2026-03-01T10:00:00Z,{text},{n % 7}"
    lines[at] = f'{at},2026-03-01T10:00:00Z,"/p,{at % 7}'
    path = written(tmp_path, end.join([HEAD, *lines, ""]).encode())
    good, bad = records_of(path, block_bytes=block_bytes)
    assert bad == [lines[at].encode()]
    assert [record["id"] for record in good] == [str(n) for n in range(3_000) if n != at]


def test_a_stray_quote_in_the_last_line_of_a_file_without_a_line_end(tmp_path):
    good, bad = records_of(written(tmp_path, b'a,b\n1,2\n3,"4'))
    assert (list(good), bad) == ([{"a": "1", "b": "2"}], [b'3,"4'])


def test_a_stray_quote_with_a_later_quote_that_closes_it_is_found_by_the_number_of_fields(tmp_path):
    data = b'a,b,c\n1,"x,2\n3,4,5\n6,7,8"\n9,"10",11\n'
    good, bad = records_of(written(tmp_path, data))
    assert [record["a"] for record in good] == ["3", "6", "9"]
    assert good[1]["c"] == '8"'
    assert bad == [b'1,"x,2']


def test_many_stray_quotes_cost_a_line_each(tmp_path):
    lines = [f'{n},"x' if n % 3 == 0 else f'{n},"y ""z""\n"' for n in range(5_000)]
    good, bad = records_of(written(tmp_path, ("a,b\n" + "\n".join(lines)).encode()), block_bytes=10_000)
    assert [record["a"] for record in good] == [str(n) for n in range(5_000) if n % 3]
    assert len(bad) == len([n for n in range(5_000) if n % 3 == 0])


def test_a_field_of_a_megabyte_with_line_ends_is_one_record(tmp_path):
    field = 'x ""y"",\r\n' * (MB // 10)
    good, bad = records_of(written(tmp_path, f'a,b\r\n1,"{field}"\r\n2,"z'.encode()), block_bytes=100_000)
    assert [(record["a"], record["b"]) for record in good] == [("1", field.replace('""', '"'))]
    assert bad == [b'2,"z']


def test_a_header_with_a_line_end_is_read_and_one_whose_quote_stays_open_is_refused(tmp_path):
    good, _ = records_of(written(tmp_path, b'a,"b\nc"\n1,2\n'))
    assert list(good) == [{"a": "1", "b\nc": "2"}]
    with pytest.raises(SourceError, match=r"x.csv: cannot be read: .*; fix the file or leave it out$"):
        records_of(written(tmp_path, b'a,"b\n1,2\n3,4\n'))


def test_no_bytes_are_read_again_and_again(monkeypatch):
    """Each line opens a quote at its end that only the end of the file closes, whichever line one begins with."""
    data = b'b",""",\n' * 40_000
    layout = CsvFormat(delimiter=",", header=False, columns=tuple(map(str, range(90_000))))
    matched, patterns = [], quotes._patterns(layout)
    field = patterns.field
    counting = type("Counting", (), {"match": lambda self, *given: matched.append(1) or field.match(*given)})()
    monkeypatch.setattr(quotes, "_patterns", lambda _: patterns._replace(field=counting))
    found = newlines_of(data, layout, at_end=True)
    assert len(found.ends) == 40_000
    assert len(matched) < 40 * 40_000


def test_a_record_of_several_lines_that_is_too_long_gives_up_its_first_line():
    data = b'1,"' + b"x\n" * (RECORD_LIMIT // 2) + b'",3\n4,5,6\n'
    found = list(pieces([data[at : at + MB] for at in range(0, len(data), MB)], MB, ABC))
    assert not any(piece.long for piece in found)
    assert b"".join(piece.data for piece in found) == data
    lines = [row for piece in found for row in batches([piece], ABC, 64 * MB, 10**9)]
    assert sum(batch.starts.size for batch in lines) == RECORD_LIMIT // 2 + 2


# Keys of a mapping


def test_an_escape_makes_the_next_character_a_part_of_the_value(tmp_path):
    data = b'a,b\n1,"/say \\"hi\\""\n2,x\\,y\n3,"p\\\\"\n4,two\\\nlines\n5,\\N\n'
    good, bad = records_of(written(tmp_path, data), CsvFormat(escape="\\", null=("\\N",)))
    assert not bad
    values = [record.get("b") or None for record in good]
    assert values == ['/say "hi"', "x,y", "p\\", "two\nlines", None]


def test_comments_are_no_records_before_the_header_and_behind_it(tmp_path):
    data = b'#Version: 1.0\n#Fields: "a\n\xef\xbb\xbf'[:-3] + b'a b\n1 -\n#Version: 1.0\n#, "\n2 x\n'
    good, bad = records_of(written(tmp_path, data), CsvFormat(" ", comment="#", null=("-",)), 7)
    assert not bad
    assert [(record["a"], record.get("b") or None) for record in good] == [("1", None), ("2", "x")]
    assert [
        place.rpartition(":")[2]
        for block in blocks(tmp_path / "x.csv", CsvFormat(" ", comment="#"))
        for place in block["position"]
    ] == ["4", "7"]


def test_lines_before_the_header_are_skipped(tmp_path):
    data = b'Report, "of\nMarch\n\na,b\n1,2\n'
    good, _ = records_of(written(tmp_path, data), CsvFormat(skip=3))
    assert list(good) == [{"a": "1", "b": "2"}]
    good, _ = records_of(written(tmp_path, data), CsvFormat(skip=4, header=False, columns=("x", "y")))
    assert list(good) == [{"x": "1", "y": "2"}]


def test_any_run_of_blanks_is_one_delimiter(tmp_path):
    data = b'  a   b\tc\n1  2   3\n 4\t"x  y" 5 \n'
    good, bad = records_of(written(tmp_path, data), CsvFormat("blanks"))
    assert not bad
    assert list(good) == [{"a": "1", "b": "2", "c": "3"}, {"a": "4", "b": "x  y", "c": "5"}]


def test_a_delimiter_behind_the_last_value_is_stated(tmp_path):
    path = written(tmp_path, b'a;b\n1;2;\n3;"x\ny";\n4;5;6\n')
    good, bad = records_of(path, CsvFormat(";", trailing=True))
    assert list(good) == [{"a": "1", "b": "2"}, {"a": "3", "b": "x\ny"}]
    assert bad == [b"4;5;6"]
    assert b"1;2;" in records_of(path, CsvFormat(";"))[1]


def test_a_line_is_a_record_where_values_have_no_line_ends(tmp_path):
    path = written(tmp_path, b'a,b\n1,"x\ny"\n2,"z"\n')
    good, bad = records_of(path, CsvFormat(multiline=False))
    assert list(good) == [{"a": "2", "b": "z"}]
    assert bad == [b'1,"x', b'y"']


@pytest.mark.parametrize("delimiter", ["~", "^", "\x01", ".", "*", "]", "\\", "-", " "])
def test_any_character_is_a_delimiter(tmp_path, delimiter):
    lines = [["a", "b", "c"], ["1", '"x\ny"', "3"], ["4", "5", "6"]]
    data = "\n".join(delimiter.join(line) for line in lines) + "\n"
    good, bad = records_of(written(tmp_path, data.encode()), CsvFormat(delimiter))
    assert not bad
    assert json.loads(json.dumps([dict(record) for record in good])) == [
        {"a": "1", "b": "x\ny", "c": "3"},
        {"a": "4", "b": "5", "c": "6"},
    ]


LOG = CsvFormat(" ", header=False, columns=("a", "b"), rest="others", multiline=False)


def test_a_record_may_have_fewer_or_more_values_with_a_column_for_the_rest(tmp_path):
    data = b'1\n2 x\n3 "y z" - "\\"\n4 "open\n5 x 6 "7 8"\n'
    good, bad = records_of(written(tmp_path, data), LOG)
    assert [{name: value for name, value in dict(record).items() if value} for record in good] == [
        {"a": "1"},
        {"a": "2", "b": "x"},
        {"a": "3", "b": "y z", "others": "- \\"},
        {"a": "5", "b": "x", "others": "6 7 8"},
    ]
    assert bad == [b'4 "open']


def test_the_rest_of_a_file_that_has_a_column_of_its_name_has_another(tmp_path):
    path = written(tmp_path, b"id,others,others_\n1,2,3,4,5\n")
    good, bad = records_of(path, CsvFormat(rest="others", multiline=False))
    assert (bad, list(good)) == ([], [{"id": "1", "others": "2", "others_": "3", "others__": "4,5"}])


@given(
    st.lists(st.lists(st.text('ab\\x4"', min_size=1, max_size=6), min_size=1, max_size=5), min_size=1, max_size=9),
    st.integers(1, 30),
    st.integers(1, 9),
    st.booleans(),
)
@settings(max_examples=200, deadline=None)
def test_records_of_any_width_are_read_whole_wherever_bytes_are_cut(records, block_bytes, chunk, escaped):
    layout = CsvFormat(" ", "'", header=False, columns=("a", "b"), rest="c", multiline=False)
    layout = structs.replace(layout, escape="\\", escaped_bytes=True) if escaped else layout
    lines = [" ".join(value.replace("\\", "\\\\") if escaped else value for value in values) for values in records]
    found = [text for _, text in cut_rows("\n".join(lines).encode(), layout, block_bytes, chunk)]
    assert found == lines
    rows = list(rows_of(found, form_of(layout, layout.columns)))
    assert rows == [[*[*values, "", ""][:2], " ".join(values[2:])] for values in records]
    assert rows == [row for text in found for row in rows_of([text], form_of(layout, layout.columns))]


def test_escaped_bytes_are_the_characters_that_they_make_in_utf8(tmp_path):
    layout = structs.replace(LOG, escape="\\", escaped_bytes=True)
    lines = {
        r'"\x16\x03\x01"': r"\x16\x03\x01",  # nothing that can be printed
        r'"a\x22b\"c"': 'a"b"c',
        r'"caf\xC3\xA9 \xff"': r"café \xff",
        r"\xe2\x82\xac\x20\x5C": "€ \\",
        r'"a\\x41 \\\x41 \x4"': r"a\x41 \A x4",
    }
    data = "".join(f"{at} {line}\n" for at, line in enumerate(lines))
    good, bad = records_of(written(tmp_path, data.encode()), layout)
    assert not bad
    assert [record["b"] for record in good] == list(lines.values())
    good, _ = records_of(written(tmp_path, data.encode()), structs.replace(layout, escaped_bytes=False))
    assert good[0]["b"] == "x16x03x01"
