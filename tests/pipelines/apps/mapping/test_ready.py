"""Logs for which a mapping is shipped: the proposal names it, and it reads them."""

import gzip

import pytest

from pipelines.apps.mapping.check import check_file
from pipelines.apps.mapping.proposal import propose
from pipelines.apps.mapping.ready import path_of, ready_mapping
from pipelines.apps.mapping.report import proposal_lines
from pipelines.settings.config import TEMPLATES
from tests.transforms.mapping.test_access_logs import ALB_NEWEST, FIELDS, balanced, entry, line, served
from transforms.mapping import load_mapping

GARBAGE = line(r"\x16\x03\x01", 400, agent="-")
LOGS = {
    "combined": ("access-log", [*(line(f"GET /p{at} HTTP/1.1", agent=r"a \"b\"; c") for at in range(20)), GARBAGE]),
    "common": ("access-log", [line(f"GET /p{at} HTTP/1.1").rpartition(' "-" ')[0] for at in range(20)]),
    "cloudfront": ("cloudfront", [FIELDS, *(served(at, f"/p{at}") for at in range(20))]),
    "alb": ("aws-alb", [balanced(f"GET https://a.example:443/p{at} HTTP/1.1") + ALB_NEWEST for at in range(20)]),
    "google": ("google-lb", [entry(at, url=f"https://a.example/p{at}") for at in range(20)]),
}


@pytest.mark.parametrize("name", LOGS)
@pytest.mark.parametrize("packed", [False, True])
def test_the_proposal_for_an_access_log_names_the_mapping_that_reads_it(tmp_path, name, packed):
    ready, lines = LOGS[name]
    path = tmp_path / ("access.log.2.gz" if packed else "access.log")
    data = "".join(f"{each}\n" for each in lines).encode()
    path.write_bytes(gzip.compress(data) if packed else data)
    made = propose([str(path)])
    assert made.ready == ready
    assert made.yaml.startswith(
        f"# This is an access log, and templates/mappings/{ready}.yaml is a mapping for it: see "
    )
    assert str(TEMPLATES / "mappings" / f"{ready}.yaml") in "\n".join(proposal_lines(made))
    own = load_mapping(made.yaml, "made")
    assert own.fields.event_time is not None and made.rehearsal.passed() >= 20
    check = check_file(str(path_of(ready)), [str(path)]).check
    assert check.passed == check.records >= 20


def test_a_stated_delimiter_is_taken_as_it_is(tmp_path):
    path = tmp_path / "alb.log"
    path.write_text("".join(f"{balanced()}\n" for _ in range(20)))
    assert load_mapping(propose([str(path)]).yaml, "made").csv.columns[:2] == ("type", "time")
    made = propose([str(path)], delimiter=" ")
    assert load_mapping(made.yaml, "made").csv.columns[:2] == ("column_1", "column_2")


def test_the_fields_that_a_log_names_are_its_columns(tmp_path):
    path = tmp_path / "cloudfront.log"
    names = ("date", "time", "x-edge-location", "cs-uri-stem", "c-country")
    rows = [f"2026-03-01\t09:00:{at:02}\tFRA56-P1\t/p{at}\tDE\n" for at in range(5)]
    path.write_text(f"#Version: 1.0\n#Fields: {' '.join(names)}\n{''.join(rows)}")
    made = propose([str(path)])
    assert (made.ready, load_mapping(made.yaml, "made").csv.columns) == ("cloudfront", names)


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"\n\n",
        b"#Version: 1.0\n",
        b"time;visitor;action\n01.03.2026 09:00;c1;View\n",
        b'{"insertId": "a", "timestamp": "2026-03-01T09:00:00Z", "textPayload": "httpRequest"}\n',
        b"2026-03-01\t09:00:00\tc1\tview\n",
        b"https 2026-03-01T09:00:00.1Z elsewhere\n",
        b"a" * 100_000 + b" - - [",
        f"{line()}\nno such line\n".encode(),
        f"shop.example:443 {line()}\n".encode(),  # has another column in front
    ],
)
def test_other_files_have_no_mapping_that_is_shipped(head):
    assert ready_mapping(head) == ""


def test_a_few_lines_may_be_others():
    assert ready_mapping(f"{line()}\n".encode() * 19 + b"no such line\n") == "access-log"
    assert ready_mapping(f"{line()}\n".encode() * 17 + b"no such line\n" * 2) == ""
