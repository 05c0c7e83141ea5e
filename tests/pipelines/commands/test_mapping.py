"""`audience mapping`: what it writes and says, its exit statuses, and a line for each mistake."""

import json
from pathlib import Path

import pytest

from pipelines.cli import main

RECORDS = "".join(
    json.dumps({"id": n, "ts": 1_772_359_200 + n, "user": f"u{n % 3}", "type": ("view", "buy")[n % 2]}) + "\n"
    for n in range(12)
)


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    """An empty working directory beside the records of `shop.jsonl`."""
    (tmp_path / "shop.jsonl").write_text(RECORDS)
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path


def test_from_a_sample_to_events_in_four_commands(here, capsys):
    assert main(["mapping", "--from", "../shop.jsonl"]) == 0
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "12 sampled records, of which 100 % pass" in shown.err
    assert "event_time  100 %    {path: ts, time: s}" in shown.err
    written = Path("shop.yaml").read_text()
    assert "  user_id: {path: user}  # 100 %\n" in written
    check, backfill = [line.partition("next: ")[2].split()[1:] for line in shown.err.splitlines()[-2:]]
    assert main(check) == 0
    assert "12 records: 12 pass (100 %)" in capsys.readouterr().out
    assert main([*backfill, "--workers", "1"]) == 0
    capsys.readouterr()
    assert main(["query", "SELECT event_type, count(*) AS n FROM events GROUP BY 1 ORDER BY 1", "--csv"]) == 0
    assert capsys.readouterr().out == "event_type,n\npage_view,6\npurchase,6\n"


def test_a_check_writes_nothing_and_its_status_is_1_if_some_records_fail(here, capsys):
    assert main(["mapping", "--from", "../shop.jsonl"]) == 0
    with open("../shop.jsonl", "a") as more:
        more.write('{"ts": 1, "type": "view"\n')
    before = sorted(here.rglob("*"))
    assert main(["mapping", "--check", "shop.yaml", "--input", "../shop.jsonl"]) == 1
    shown = capsys.readouterr()
    assert "13 records: 12 pass (92.3 %)" in shown.out
    assert "invalid_json" in shown.out
    assert '{"ts": 1, "type": "view"' in shown.out
    assert main(["mapping", "--check", "shop.yaml", "--input", "../shop.jsonl", "--limit", "12"]) == 0
    assert sorted(here.rglob("*")) == before


def test_json_is_for_machines_and_holds_no_record(here, capsys):
    assert main(["mapping", "--from", "../shop.jsonl", "--output", "m.yaml"]) == 0
    Path("bad.jsonl").write_text(RECORDS + '{"secret": "hunter2"\n')
    capsys.readouterr()
    assert main(["mapping", "--check", "m.yaml", "--input", "bad.jsonl", "--json"]) == 1
    shown = capsys.readouterr().out
    told = json.loads(shown)
    assert (told["records"], told["passed"], told["event_types"]) == (13, 12, {"page_view": 6, "purchase": 6})
    assert told["failed"][0]["position"].endswith("bad.jsonl:13")
    assert "hunter2" not in shown


def test_a_dash_is_stdout(here, capsys):
    assert main(["mapping", "--from", "../shop.jsonl", "--output", "-"]) == 0
    shown = capsys.readouterr()
    assert shown.out.startswith("# Proposed from 12 records: 100 % pass.")
    assert "next:" not in shown.err
    assert list(Path().iterdir()) == []


def test_a_file_that_is_there_is_not_written_over_unless_forced(here, capsys):
    Path("shop.yaml").write_text("mine")
    for argv in ([], ["--output", "shop.yaml"]):
        assert main(["mapping", "--from", "../shop.jsonl", *argv]) == 2
        assert capsys.readouterr().err.startswith(
            "error: shop.yaml: already exists; choose another --output, or --force"
        )
        assert Path("shop.yaml").read_text() == "mine"
    assert main(["mapping", "--from", "../shop.jsonl", "--force"]) == 0
    assert Path("shop.yaml").read_text().startswith("# Proposed")


WRONG = {
    "neither": ([], "got neither of --from and --check; allowed: one of them"),
    "both": (["--from", "../shop.jsonl", "--check", "m.yaml"], "got both of --from and --check"),
    "a check without a sample": (["--check", "m.yaml"], "--check needs --input: name files"),
    "an input without a check": (["--from", "../shop.jsonl", "--input", "x"], "--input: only for --check; leave it"),
    "an output of a check": (["--check", "m.yaml", "--input", "x", "--output", "y"], "--output: only for --from"),
    "no number": (["--from", "../shop.jsonl", "--limit", "all"], "--limit: got 'all'; allowed: a whole number"),
    "zero": (["--from", "../shop.jsonl", "--limit", "0"], "--limit: got '0'; allowed"),
    "no file": (["--from", "none.jsonl"], "'none.jsonl': there is no such file; check the path"),
    "no mapping": (["--check", "m.yaml", "--input", "../shop.jsonl"], "m.yaml: cannot read the mapping"),
    "no such form": (["--from", "../shop.jsonl", "--format", "xml"], "invalid choice: 'xml'"),
    "another form": (["--from", "../shop.jsonl", "--format", "parquet"], "shop.jsonl: cannot be read: "),
    "no folder": (["--from", "../shop.jsonl", "--output", "no/m.yaml"], "no/m.yaml: No such file or directory"),
}


@pytest.mark.parametrize("mistake", WRONG)
def test_a_mistake_is_one_line_and_status_2_and_writes_nothing(mistake, here, capsys):
    argv, said = WRONG[mistake]
    assert main(["mapping", *argv]) == 2
    shown = capsys.readouterr()
    assert (shown.out, shown.err.count("\n")) == ("", 1)
    assert shown.err.startswith("error: ")
    assert said in shown.err
    assert list(Path().iterdir()) == []
