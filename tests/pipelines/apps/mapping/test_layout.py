"""The layout of a CSV is found by what cuts its lines evenly, and the records are read by it."""

import json

import pytest

from pipelines.apps.mapping.layout import detect_layout
from pipelines.apps.mapping.proposal import propose
from pipelines.cli import main
from transforms.mapping import load_mapping

TIMES = [f"2026-03-01T10:{n:02}:00Z" for n in range(20)]
COMBINED = r"""203.0.113.5 - - [06/Jan/2025:00:00:01 -0600] "GET /shop/a HTTP/1.1" 200 51 "https://e.org/" "M/5 (a; b)"
203.0.113.5 - - [06/Jan/2025:00:00:09 -0600] "GET /shop/b?q=1 HTTP/1.1" 200 100 "-" "Mozilla/5.0 (a; b, c)"
198.51.100.7 - - [06/Jan/2025:06:10:00 +0000] "POST /cart HTTP/2.0" 302 0 "https://e.org/b" "He said \"hi\" (bot)"
2001:db8::1 - - [06/Jan/2025:15:10:00 +0900] "GET / HTTP/1.0" 200 58 "-" "Mozilla/5.0 (compatible; bingbot/2.0)"
"""
W3C = """#Version: 1.0
#Fields: date time x-edge-location c-ip cs-uri-stem cs(Referer)
2026-03-01\t01:58:45\tDFW3\t203.0.113.149\t/robots.txt\t-
2026-03-01\t02:01:00\tDFW3\t203.0.113.150\t/a\thttps://example.org/x
#Version: 1.0
#Fields: date time x-edge-location c-ip cs-uri-stem cs(Referer)
2026-03-01\t02:02:00\tDFW3\t203.0.113.150\t/b\t-
"""


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|", "~", "^", "\x01", " ", "*"])
def test_whatever_cuts_the_lines_evenly_is_the_delimiter(delimiter, tmp_path):
    path = tmp_path / "x.txt"
    path.write_text(
        delimiter.join(["when", "user", "what"])
        + "\n"
        + "".join(delimiter.join([time, f"u{n % 3}", "view"]) + "\n" for n, time in enumerate(TIMES))
    )
    made = propose([str(path)])
    assert getattr(load_mapping(made.yaml, "x").csv, "delimiter", ",") == delimiter
    assert made.rehearsal.passed() == 20 and set(made.rehearsal.events["user_id"]) == {"u0", "u1", "u2"}


@pytest.mark.parametrize(
    ("text", "stated"),
    [
        ("a::2026-03-01\nb::2026-03-02\n", {"delimiter": ":"}),
        (" 004 01  19970101  2   29.33\n 004 01  19970118  2   29.73\n", {"delimiter": "blanks", "header": False}),
        ("Report of the shop\n\nt,user,what\n1,a,view\n2,b,view\n3,c,view\n", {"skip": 2}),
        ("t|user|what|\n1|a|view|\n2|b|view|\n", {"delimiter": "|", "trailing": False}),
        ("t|user|what\n1|a|view|\n2|b|view|\n", {"delimiter": "|", "trailing": True}),
        ("t,user\n1,\\N\n2,NULL\n", {"null": ("\\N", "NULL")}),
        ("#t,user\n1,a\n2,b\n", {"comment": ""}),
        ("# made by hand\nt,user\n1,a\n2,b\n", {"comment": "#"}),
        ('t,say\n1,"a ""b"" c"\n2,"x"\n', {"escape": ""}),
        ('t,say,w\n1,"a \\"b, c\\"",x\n2,"x",y\n', {"escape": "\\"}),
        ("t,note\n1,a b\n2,c d\n3,it's; e\n", {"delimiter": ""}),
        ("2026-03-01 10:00:00 UTC,a\n2026-03-02 10:00:00 UTC,b\n", {"delimiter": "", "header": False}),
    ],
)
def test_the_rest_of_a_layout_is_found(text, stated):
    found = detect_layout(text.encode(), ",").csv
    assert {name: getattr(found, name) for name in stated} == stated


def test_values_with_line_ends_are_seen_because_their_lines_cannot_be_read_alone():
    assert detect_layout(b't,note\n1,"a\nb"\n2,c\n', ",").multiline
    assert not detect_layout(b't,note\n1,"a b"\n2,c\n', ",").multiline


def test_an_access_log_is_cut_at_its_blanks(tmp_path):
    (tmp_path / "access.log").write_text(COMBINED)
    made = propose([str(tmp_path / "access.log")])
    assert made.rehearsal.passed() == made.rehearsal.records == 4
    times = made.rehearsal.events["event_time"].sort()
    assert [f"{time:%H:%M:%S}" for time in times] == ["06:00:01", "06:00:09", "06:10:00", "06:10:00"]
    assert made.rehearsal.events["referrer"].null_count() == 2  # "-" is no value
    assert set(made.rehearsal.events["event_type"]) == {"page_view"}
    assert "198.51.100.7" in set(made.rehearsal.events["anonymous_id"])


def test_a_w3c_log_has_its_columns_in_a_comment(tmp_path):
    (tmp_path / "E1.log").write_text(W3C)
    made = propose([str(tmp_path / "E1.log")])
    assert made.rehearsal.records == 3 and made.rehearsal.passed() == 3
    assert f"{made.rehearsal.events['event_time'].min():%Y-%m-%d %H:%M:%S}" == "2026-03-01 01:58:45"


def test_a_delimiter_that_is_stated_is_taken(tmp_path, capsys):
    path = tmp_path / "x.txt"
    path.write_text("when;a,user;b\n" + "".join(f"{time};1,u{n};2\n" for n, time in enumerate(TIMES)))
    assert main(["mapping", "--from", str(path), "--delimiter", ";", "--output", "-"]) == 0
    assert 'csv: {delimiter: ";"}' in capsys.readouterr().out
    assert main(["mapping", "--from", str(path), "--delimiter", "::", "--output", "-"]) == 2
    assert "--delimiter: got '::'; allowed: one ASCII character, tab, space or blanks" in capsys.readouterr().err


def test_a_plain_file_is_sampled_to_its_end_without_being_read_whole(tmp_path, monkeypatch):
    from pipelines.apps.mapping import sample

    monkeypatch.setattr(sample, "MOST_BYTES", 64 << 10)
    monkeypatch.setattr(sample, "BLOCK_BYTES", 64 << 10)
    path = tmp_path / "x.csv"
    rows = [f"2026-03-{1 + n // 2_000:02}T10:00:00Z,u{n},{'x' * 40}\n" for n in range(40_000)]
    path.write_text("time,user,note\n" + "".join(rows))
    made = propose([str(path)])
    days = made.rehearsal.events["event_time"].dt.date().unique().sort()
    assert (days[0].day, days[-1].day) == (1, 20)
    assert made.rehearsal.records < 4_000 and made.rehearsal.passed() == made.rehearsal.records


# Text that is not UTF-8, and JSON that is not one object a line.


def test_text_that_is_not_utf8_gets_its_encoding_stated(tmp_path):
    content = "time,user,action\n" + "".join(f"{time},Zo\xeb{n % 3},view\n" for n, time in enumerate(TIMES))
    (tmp_path / "x.csv").write_bytes(content.encode("cp1252"))
    made = propose([str(tmp_path / "x.csv")])
    assert load_mapping(made.yaml, "x").encoding == "cp1252"
    assert made.rehearsal.passed() == 20 and "Zo\xeb1" in set(made.rehearsal.events["user_id"])


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8-sig"])
def test_text_with_a_byte_order_mark_needs_no_encoding(encoding, tmp_path):
    content = "time,user,action\n" + "".join(f"{time},Zo\xeb{n % 3},view\n" for n, time in enumerate(TIMES))
    (tmp_path / "x.csv").write_bytes(content.encode(encoding))
    made = propose([str(tmp_path / "x.csv")])
    assert load_mapping(made.yaml, "x").encoding == ""
    assert "Zo\xeb1" in set(made.rehearsal.events["user_id"])


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("wrapped", [False, True])
def test_arrays_and_documents_are_read(wrapped, indent, tmp_path):
    inner = [{"id": f"f{n}", "type": "click", "at": time, "user": f"u{n % 3}"} for n, time in enumerate(TIMES)]
    document = {"count": 20, "page": {"events": inner}} if wrapped else inner
    (tmp_path / "x.json").write_text(json.dumps(document, indent=indent))
    made = propose([str(tmp_path / "x.json")])
    assert len(made.rehearsal.events) == 20 and made.rehearsal.rejected.is_empty()
    mapping = load_mapping(made.yaml, "x")
    assert ("page.events" in (mapping.records, mapping.explode)) == wrapped


def test_a_log_that_begins_with_a_bracket_is_no_json(tmp_path):
    rows = [f"[2026-03-01 10:{n:02}:00] u{n % 3} view\n" for n in range(20)]
    (tmp_path / "x.log").write_text("".join(rows))
    assert "format: csv" in propose([str(tmp_path / "x.log")]).yaml
