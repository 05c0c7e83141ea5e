"""A proposal for each set of real events: it loads, it runs, and finds the time, the id, the user and the content."""

import pytest

from pipelines.apps.mapping.check import check_file
from pipelines.apps.mapping.proposal import propose
from tests.support.real_data import real_set
from transforms.mapping import load_mapping

ELEMENT = "events"
SETS = {
    "github-events": (
        "*.gz",
        {"event_time": "dt", "event_id": "id", "user_id": "actor", "content_id": "repo", "event_type": "type"},
        "rfc3339",
    ),
    "wikipedia-edits": ("*.gz", {"event_time": "time", "user_id": "user", "content_id": "page"}, "rfc3339"),
    "ad-impressions": ("*.csv.gz", {"event_time": "timestamp", "content_id": "item_id"}, "rfc3339"),
    "retail-orders": (
        "*.parquet",
        {
            "event_time": "InvoiceDate",
            "user_id": "CustomerID",
            "content_id": "StockCode",
            "quantity": "Quantity",
            "country": "Country",
        },
        "%m/%d/%y %H:%M",
    ),
    "otto-sessions": (
        "*.jsonl",
        {
            "event_time": f"{ELEMENT}.ts",
            "event_type": f"{ELEMENT}.type",
            "content_id": f"{ELEMENT}.aid",
            "user_id": "session",
            "session_id": "session",
        },
        "ms",
    ),
}
IDS = {"github-events"}  # the sets whose records have an id of their own
CONSTANT = {"ad-impressions": "impression", "retail-orders": "purchase", "wikipedia-edits": "event"}


@pytest.fixture(scope="module", params=SETS)
def proposed(request):
    """(name, the files, the proposal)."""
    pattern = str(real_set(request.param) / SETS[request.param][0])
    return request.param, pattern, propose([pattern])


def test_it_finds_the_time_the_id_the_user_and_the_content(proposed):
    name, _, made = proposed
    mapping = load_mapping(made.yaml, name)
    _, paths, form = SETS[name]
    assert {field: getattr(mapping.fields, field).path for field in paths} == paths
    assert mapping.fields.event_time.time == form
    assert (mapping.fields.event_id is not None) == (name in IDS)
    if name in CONSTANT:
        assert mapping.fields.event_type.const == CONSTANT[name]


def test_what_it_says_of_the_sample_holds_for_the_whole_set(proposed, tmp_path):
    name, pattern, made = proposed
    path = tmp_path / "proposed.yaml"
    path.write_text(made.yaml)
    check = check_file(str(path), [pattern], rows=20_000).check
    assert check.passed == check.records > 15
    # A record of the sessions holds many events, and an impression may be a click, too.
    events = {"otto-sessions": 862, "ad-impressions": 10_069}.get(name, check.records)
    assert check.time_sources == {"client": events}
    assert {guess.field: guess.share > 0.7 for guess in made.guesses if guess.field in SETS[name][1]} == dict.fromkeys(
        SETS[name][1], True
    )
    filled = {field.field: field.share for field in check.fields}
    for guess in made.guesses:
        assert filled[guess.field] == pytest.approx(guess.share, abs=0.12), guess.field


def test_words_that_are_well_known_become_the_event_types(proposed):
    name, _, made = proposed
    mapping = load_mapping(made.yaml, name)
    known = {
        "github-events": {"watch": "like", "fork": "share", "push": "publish", "pr": "submit", "del": "delete"},
        "otto-sessions": {"clicks": "click", "carts": "add_to_cart"},
    }
    for word, event_type in known.get(name, {}).items():
        assert mapping.fields.event_type.map[word] == event_type


def test_day_and_month_of_the_orders_are_told_apart_by_their_values(proposed):
    name, _, made = proposed
    if name == "retail-orders":
        (time,) = [guess for guess in made.guesses if guess.field == "event_time"]
        assert time.notes == ("month first, as values above 12 show", "no zone is written: read as UTC")


def test_what_a_record_says_in_two_columns_is_put_together(proposed):
    name, _, made = proposed
    mapping = load_mapping(made.yaml, name)
    if name == "retail-orders":
        assert [part.path for part in mapping.fields.value.product] == ["Quantity", "UnitPrice"]
        assert set(made.rehearsal.events["event_type"]) == {"purchase", "refund"}
    if name == "ad-impressions":
        assert dict(made.rehearsal.events["event_type"].value_counts().iter_rows()) == {
            "impression": 10_000,
            "click": 69,
        }
