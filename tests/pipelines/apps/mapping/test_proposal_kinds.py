"""A proposal for one small sample of each kind that exports come in: what it proposes, and the events that it makes."""

import json
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from pipelines.apps.mapping.proposal import Proposal, propose
from pipelines.apps.mapping.report import proposal_lines
from transforms.errors import SourceError
from transforms.mapping import Mapping, load_mapping


def proposed(path: Path, content: str | list) -> tuple[Mapping, Proposal]:
    if not isinstance(content, str):
        content = "".join(json.dumps(each, ensure_ascii=False) + "\n" for each in content)
    path.write_text(content)
    made = propose([str(path)])
    return load_mapping(made.yaml, "proposed"), made


def events(made: Proposal, *columns: str) -> list[tuple]:
    """The events of the rehearsal, in the order of their times."""
    return made.rehearsal.events.sort("event_time").select(columns).rows()


def said(made: Proposal) -> str:
    """The whole document on one line, without the signs of comments."""
    return " ".join(made.yaml.replace("#", " ").split())


def at(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)


# Where a path is.


def test_the_top_of_a_record_is_seen_however_wide_what_comes_before_it_is(tmp_path):
    records = [
        {
            "actor": {"id": n % 3, "login": f"u{n % 3}"},
            "payload": {f"part_{k}": {f"key_{j}": j for j in range(60)} for k in range(20)},
            "repo": {"id": 100 + n % 2, "name": f"o/r{n % 2}"},
            "type": ["PushEvent", "WatchEvent", "PullRequestReviewCommentEvent"][n % 3],
            "created_at": f"2026-03-01T10:{n:02}:00Z",
            "id": str(9_000 + n),
        }
        for n in range(30)
    ]
    mapping, made = proposed(tmp_path / "x.jsonl", records)
    assert mapping.fields.event_time.path == "created_at"
    assert mapping.fields.event_type.path == "type"
    assert mapping.fields.event_id.path == "id"
    assert mapping.fields.user_id.path.startswith("actor.") and mapping.fields.content_id.path == "repo.name"
    assert events(made, "event_time", "event_type", "content_id")[:3] == [
        (at(2026, 3, 1, 10, 0), "publish", "o/r0"),
        (at(2026, 3, 1, 10, 1), "like", "o/r1"),
        (at(2026, 3, 1, 10, 2), "comment", "o/r0"),
    ]


def test_a_good_name_deep_in_a_few_records_does_not_beat_one_at_the_top(tmp_path):
    records = [
        {"ts": f"2026-03-01T10:{n:02}:00Z", "actor": {"id": f"a{n % 5}"}}
        | ({"payload": {"pull_request": {"user": {"id": f"x{n}"}}}} if n % 4 == 0 else {})
        for n in range(40)
    ]
    assert proposed(tmp_path / "x.jsonl", records)[0].fields.user_id.path == "actor.id"


# What happened.


@pytest.mark.parametrize("name", ["behavior", "what", "name", "x7", "status", "行为"])
def test_a_column_of_known_words_is_the_type_whatever_its_name(name, tmp_path):
    words = {"pv": "page_view", "buy": "purchase", "cart": "add_to_cart", "fav": "like"}
    records = [
        {"ts": f"2026-03-01T10:{n:02}:00Z", "user_id": n % 4, name: list(words)[n % 4], "item_category": f"c{n % 2}"}
        for n in range(40)
    ]
    mapping, made = proposed(tmp_path / "x.jsonl", records)
    assert mapping.fields.event_type.path == name
    assert [each for (each,) in events(made, "event_type")[:4]] == list(words.values())


def test_a_status_that_tells_orders_from_refunds_is_the_type_and_not_the_name_of_the_file(tmp_path):
    records = [
        {
            "id": 1,
            "status": "order",
            "at": "2026-03-02T10:00:00Z",
            "customer": "c1",
            "total": "50.00",
            "currency": "USD",
        },
        {
            "id": 2,
            "status": "refund",
            "at": "2026-03-03T10:00:00Z",
            "customer": "c1",
            "total": "-15.00",
            "currency": "USD",
        },
        {
            "id": 4,
            "status": "order",
            "at": "2026-03-04T11:00:00Z",
            "customer": "c2",
            "total": "20.00",
            "currency": "USD",
        },
    ]
    _, made = proposed(tmp_path / "orders.jsonl", records)
    assert events(made, "event_type", "value") == [("purchase", 50), ("refund", -15), ("purchase", 20)]
    assert "found by its values, not by its name" in said(made)


def test_a_kind_of_thing_does_not_hide_what_was_done(tmp_path):
    records = [
        {"ts": f"2026-03-01T10:{n:02}:00Z", "type": ["article", "video"][n % 2], "action": ["view", "share"][n // 15]}
        for n in range(30)
    ]
    assert proposed(tmp_path / "x.jsonl", records)[0].fields.event_type.path == "action"


def test_pages_with_the_names_of_actions_are_pages(tmp_path):
    records = [
        {"ts": f"2026-03-01T10:{n:02}:00Z", "page": ["search", "cart", "checkout"][n % 3], "user": n % 4}
        for n in range(30)
    ]
    mapping, _ = proposed(tmp_path / "x.jsonl", records)
    assert mapping.fields.event_type.const == "event" and mapping.fields.content_id.path == "page"


def test_the_kind_of_call_is_the_type_where_the_name_of_the_event_is_empty(tmp_path):
    records = [
        {"messageId": "m0", "type": "page", "event": None, "timestamp": "2020-05-01T10:00:00Z"},
        {"messageId": "m1", "type": "track", "event": "Product Viewed", "timestamp": "2020-05-01T10:01:00Z"},
        {"messageId": "m2", "type": "track", "event": "Order Completed", "timestamp": "2020-05-01T10:02:00Z"},
        {"messageId": "m3", "type": "identify", "event": None, "timestamp": "2020-05-01T10:02:30Z"},
    ]
    mapping, made = proposed(tmp_path / "x.jsonl", records)
    assert [part.path for part in mapping.fields.event_type.coalesce] == ["event", "type"]
    assert [each for (each,) in events(made, "event_type")] == ["page_view", "page_view", "purchase", "identify"]
    assert "type" not in made.unused and "event" not in made.unused


def test_names_in_other_letters_stay_apart(tmp_path):
    words = ["한글 이벤트", "購入", "Home | Nav", "🎉 party", "2nd_step", "다른 이벤트", "404", "Café"]
    records = [{"at": f"2026-03-01T10:{n:02}:00Z", "action": words[n % 8], "user": f"u{n}"} for n in range(24)]
    _, made = proposed(tmp_path / "x.jsonl", records)
    assert [each for (each,) in events(made, "event_type")[:8]] == [
        *("event_1", "purchase", "home_nav", "party", "event_2nd_step", "event_6", "code_404", "cafe"),
    ]


def test_columns_and_words_of_a_german_export_are_known(tmp_path):
    content = "zeit;kunde;aktion;artikel;menge\n" + "".join(
        f"02.03.2026 10:{n:02};k{n % 3};{['ansicht', 'bestellung', 'retoure'][n % 3]};a{n % 2};{n % 4}\n"
        for n in range(30)
    )
    mapping, made = proposed(tmp_path / "export.csv", content)
    paths = {"event_time": "zeit", "user_id": "kunde", "event_type": "aktion", "content_id": "artikel"}
    assert {name: getattr(mapping.fields, name).path for name in paths} == paths
    assert mapping.fields.quantity.path == "menge"
    assert [each for (each,) in events(made, "event_type")[:3]] == ["page_view", "purchase", "refund"]


# When it happened.


@pytest.mark.parametrize("beside", [{"settings": {"time": "2023-06-20T14:30:00Z"}}, {}])
def test_a_counter_is_no_time_beside_a_date(beside, tmp_path):
    records = [
        {
            "device_id": f"d{n % 2}",
            "received_at": f"2023-06-20T14:3{n}:32.869542820Z",
            "timestamp": 1_010_590_159 + n * 7,
        }
        | ({"settings": {"time": f"2023-06-20T14:3{n}:32Z"}} if beside else {})
        for n in range(6)
    ]
    mapping, made = proposed(tmp_path / "x.jsonl", records)
    assert mapping.fields.received_time.path == "received_at"
    assert mapping.fields.event_time is None or mapping.fields.event_time.path == "settings.time"
    assert {time.year for (time,) in events(made, "event_time")} == {2023}
    assert made.rehearsal.passed() == 6
    assert "timestamp: no event_time: as s since 1970, 1010590159 is 2002-01-09, years away from the dates" in said(
        made
    )


@pytest.mark.parametrize("how", [int, str])
def test_nanoseconds_are_read_to_the_microsecond(how, tmp_path):
    records = [{"time": how(1_687_271_672_869_542_824 + n * 10**9), "device": f"d{n % 2}"} for n in range(6)]
    _, made = proposed(tmp_path / "x.jsonl", records)
    assert events(made, "event_time")[0] == (at(2023, 6, 20, 14, 34, 32, 869_542),)
    assert made.rehearsal.passed() == 6


def test_a_number_that_agrees_with_the_dates_is_a_time(tmp_path):
    records = [
        {"ts": 1_772_359_200_000 + n, "received_at": "2026-03-01T10:00:09Z", "birthday": "1980-01-01"}
        for n in range(30)
    ]
    assert proposed(tmp_path / "x.jsonl", records)[0].fields.event_time.path == "ts"


def test_times_that_contradict_each_other_by_years_are_told(tmp_path):
    records = [{"timestamp": f"2020-05-01T10:{n:02}:00Z", "created_at": f"2026-05-01T10:{n:02}:00Z"} for n in range(20)]
    assert "created_at contradicts it: 6 years apart, e.g. 2026-05-01" in said(
        proposed(tmp_path / "x.jsonl", records)[1]
    )


def test_dates_that_contradict_each_other_are_told(tmp_path):
    times = ["03/08/2026 10:00", "04/08/2026 11:00", "26/09/2026 10:00", "09/27/2026 10:00"]
    content = "when,user,what\n" + "".join(f"{time},u{n},view\n" for n, time in enumerate(times))
    _, made = proposed(tmp_path / "x.csv", content)
    note = "the values contradict each other: 26/09/2026 10:00 is day first, 09/27/2026 10:00 month first; read as day"
    assert note in said(made) and "1 of 4 records fail" in said(made)
    assert made.rehearsal.passed() == 3


def test_a_date_and_a_clock_are_one_time_whatever_their_names(tmp_path):
    content = "a,b,c\n" + "".join(f"2026-03-{n:02},u{n % 3},{n:02}:30:00\n" for n in range(1, 20))
    _, made = proposed(tmp_path / "x.csv", content)
    assert events(made, "event_time")[0] == (at(2026, 3, 1, 1, 30),)


def test_a_time_in_two_neighbouring_columns_is_put_together(tmp_path):
    content = "ip,day,zone,page\n" + "".join(f"10.0.0.{n},[06/Jan/2025:00:00:{n:02},-0600],/p\n" for n in range(20))
    _, made = proposed(tmp_path / "x.csv", content)
    assert events(made, "event_time")[0] == (at(2025, 1, 6, 6, 0, 0),)


@pytest.mark.parametrize(
    ("content", "first"),
    [
        ("year,month,day,hour,who\n2026,3,1,9,a\n2026,12,24,18,b\n", at(2026, 3, 1, 9)),
        ("time,who\n2026-03-01 09,a\n2026-12-24 18,b\n", at(2026, 3, 1, 9)),
        ("[2026-03-01 09:00:07] a view\n[2026-12-24 18:00:00] b view\n", at(2026, 3, 1, 9, 0, 7)),
        ("a::1::3::978300760\nb::2::5::978302109\n", at(2000, 12, 31, 22, 12, 40)),
    ],
)
def test_times_in_parts_and_in_numbers_are_put_together(content, first, tmp_path):
    _, made = proposed(tmp_path / "x.txt", content)
    assert events(made, "event_time")[0] == (first,)
    assert made.rehearsal.passed() == 2


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("when,user\n2026-03-28 10:00 MOON,u1\n2026-03-29 10:00 MOON,u2\n", "when: '2026-03-28 10:00 MOON' looks like"),
        ("id,user\n1700000000,u1\n1700000009,u2\n", "id: '1700000000' could be s since 1970, but its name says"),
        ("time,user\n12.5,u1\n13.5,u2\n", "time: '12.5' is no epoch in"),
        (
            "when,user\n2026-03-28,u1\nsoon,u2\nlater,u3\nlate,u4\n",
            "when: only 25 % can be read as %Y-%m-%d, not 'soon'",
        ),
    ],
)
def test_the_message_names_what_looked_like_a_time_and_why_it_failed(content, reason, tmp_path):
    (tmp_path / "x.csv").write_text(content)
    with pytest.raises(SourceError) as raised:
        propose([str(tmp_path / "x.csv")])
    assert reason in str(raised.value) and "\n" not in str(raised.value)


def test_a_last_resort_is_taken_and_told(tmp_path):
    _, made = proposed(
        tmp_path / "x.jsonl", [{"updated_at": f"2026-03-0{n}T10:00:00Z", "user": n} for n in range(1, 9)]
    )
    assert made.rehearsal.passed() == 8
    assert "the name does not say that it is the time of the event" in said(made)


# Lists.


def test_a_list_is_unfolded_although_some_records_lack_it(tmp_path):
    inner = [{"id": f"x{n}", "type": "view", "at": f"2026-03-01T10:00:0{n}Z", "user": "u1"} for n in range(5)]
    records = [
        {"batch": "b1", "sent": "2026-03-01T10:00:10Z", "events": inner},
        {"batch": "b2", "sent": "2026-03-01T10:01:10Z", "events": []},
        {"batch": "b3", "sent": "2026-03-01T10:02:10Z"},
        {"batch": "b4", "sent": "2026-03-01T10:02:10Z", "events": ["oops", None, inner[0] | {"id": "x9"}]},
    ]
    mapping, made = proposed(tmp_path / "x.jsonl", records)
    assert mapping.explode == "events"
    assert mapping.fields.event_time.path == "events.at"
    assert len(made.rehearsal.events) == 6


def test_a_list_that_tells_what_happened_and_when_counts_more_than_the_time_of_the_session(tmp_path):
    records = [
        {
            "session_start": f"2026-03-0{n + 1}T10:00:00Z",
            "user": f"u{n}",
            "events": [{"type": ["view", "click"][k % 2], "ts": f"2026-03-0{n + 1}T10:0{k}:00Z"} for k in range(4)],
        }
        for n in range(5)
    ]
    mapping, made = proposed(tmp_path / "x.jsonl", records)
    assert mapping.explode == "events" and len(made.rehearsal.events) == 20
    assert events(made, "event_type", "user_id")[1] == ("click", "u0")


def test_methods_of_http_and_states_of_a_login_are_not_what_happened(tmp_path):
    pages = ["NextSong", "Home", "Thumbs Up", "Add to Playlist", "Login"]
    records = [
        {
            "ts": 1_538_352_117_000 + n,
            "userId": f"u{n % 7}",
            "auth": ["Logged In", "Logged Out"][n % 2],
            "method": ["PUT", "POST", "DELETE"][n % 3],
            "page": pages[n % 5],
        }
        for n in range(60)
    ]
    mapping, made = proposed(tmp_path / "x.jsonl", records)
    assert mapping.fields.event_type.path == "page"
    assert [each for (each,) in events(made, "event_type")[:5]] == ["play", "page_view", "like", "bookmark", "login"]


def test_methods_of_requests_are_not_what_happened(tmp_path):
    records = [{"ts": 1_538_352_117_000 + n, "userId": f"u{n % 7}", "m": ["POST", "DELETE"][n % 2]} for n in range(20)]
    assert proposed(tmp_path / "x.jsonl", records)[0].fields.event_type.const == "event"


# What it says.


def test_a_proposal_under_which_most_records_fail_begins_with_that(tmp_path):
    records = [
        {"ts": f"2026-03-01T10:{n:02}:00Z" if n % 3 == 0 else "soon", "user": f"u{n}", "kind": "x"} for n in range(30)
    ]
    _, made = proposed(tmp_path / "x.jsonl", records)
    head = "MOST RECORDS FAIL under this proposal: 10 of 30 pass; no_time (event_time) in 20."
    assert made.yaml.startswith(f"# {head}\n")
    assert next(proposal_lines(made)) == head


def test_values_of_what_is_not_used_are_shown(tmp_path):
    records = [
        {
            "ts": f"2026-03-01T10:{n:02}:00Z",
            "user": f"u{n}",
            "price": ["20 EUR", "1.355 CHF"][n % 2],
            "who_knows": "x" * 99,
        }
        for n in range(20)
    ]
    _, made = proposed(tmp_path / "x.jsonl", records)
    assert "#   price: 20 EUR | 1.355 CHF\n" in made.yaml
    assert f"#   who_knows: {'x' * 23}…\n" in made.yaml
    assert "price      100 %    20 EUR | 1.355 CHF" in "\n".join(proposal_lines(made))


def test_equal_records_that_become_one_are_told(tmp_path):
    lines = [{"ts": "2026-03-01T10:00:00Z", "ip": "10.0.0.1", "path": "/a"}] * 2
    _, made = proposed(tmp_path / "x.jsonl", [*lines, {"ts": "2026-03-01T10:00:01Z", "ip": "10.0.0.1", "path": "/b"}])
    assert "1 records equal another one in all fields, and count as its duplicates" in said(made)


def test_a_currency_that_is_not_found_is_not_made_up(tmp_path):
    records = [{"ts": f"2026-03-01T10:{n:02}:00Z", "user": f"u{n}", "price": n + 0.5} for n in range(20)]
    _, made = proposed(tmp_path / "x.jsonl", records)
    assert "Sums of value need a currency, and none was found" in said(made) and "EUR" not in made.yaml


# Who and what, by the values alone.


def test_columns_without_names_are_read_by_their_values_and_their_places(tmp_path):
    content = "".join(
        f"{100 + n // 5},{2_000_000 + n % 17},{n % 3},{['pv', 'pv', 'buy', 'cart', 'fav'][n % 5]},{1_511_544_070 + n}\n"
        for n in range(60)
    )
    mapping, made = proposed(tmp_path / "UserBehavior.csv", content)
    assert (mapping.fields.event_time.path, mapping.fields.event_time.time) == ("column_5", "s")
    assert (mapping.fields.user_id.path, mapping.fields.content_id.path) == ("column_1", "column_2")
    assert events(made, "user_id", "content_id", "event_type")[2] == ("100", "2000002", "purchase")
    assert "guessed by its place alone: check it" in said(made)


def test_a_number_that_goes_with_the_person_is_no_content_and_a_count_is_none(tmp_path):
    content = "".join(
        f" {n // 3:05} {n // 3 + 7:04} 199701{n % 28 + 1:02}  {n % 9 + 1}   {n + 10}.{n:02}\n" for n in range(60)
    )
    mapping, made = proposed(tmp_path / "purchases.txt", content)
    assert (mapping.fields.user_id.path, mapping.fields.content_id, mapping.fields.value.path) == (
        *("column_1", None, "column_5"),
    )
    assert events(made, "event_time", "event_type", "user_id", "value")[0] == (
        *(at(1997, 1, 1), "purchase", "00000", 10),
    )


def test_addresses_identify_people_and_an_address_of_the_network_says_what_it_is(tmp_path):
    records = [{"ts": f"2026-03-01T10:{n:02}:00Z", "x": f"a{n % 7}@example.org", "y": f"/p{n % 5}"} for n in range(30)]
    mapping, made = proposed(tmp_path / "x.jsonl", records)
    assert (mapping.fields.user_id.path, mapping.fields.content_id.path) == ("x", "y")
    records = [{"ts": f"2026-03-01T10:{n:02}:00Z", "from": f"10.0.0.{n % 7}", "path": f"/p{n % 5}"} for n in range(30)]
    mapping, made = proposed(tmp_path / "hits.jsonl", records)
    assert mapping.fields.anonymous_id.path == "from"
    assert "an IP address, which several people may share" in said(made)


# Money.


def charges(*rows: tuple[str, int, str]) -> list[dict]:
    return [
        {
            "id": f"e{n}",
            "type": kind,
            "created": 1_772_359_260 + n,
            "data": {"object": {"amount": amount, "currency": code}},
        }
        for n, (kind, amount, code) in enumerate(rows)
    ]


def test_minor_units_and_codes_in_small_letters_are_read_by_their_currency(tmp_path):
    paid = "charge.succeeded"
    records = charges(
        *(
            (paid, 2000, "usd"),
            (paid, 5000, "jpy"),
            (paid, 1999, "eur"),
            (paid, 12345, "kwd"),
            ("charge.refunded", 2000, "usd"),
        )
    )
    _, made = proposed(tmp_path / "x.jsonl", records)
    assert events(made, "event_type", "value", "currency") == [
        ("purchase", Decimal("20"), "USD"),
        ("purchase", Decimal("5000"), "JPY"),
        ("purchase", Decimal("19.99"), "EUR"),
        ("purchase", Decimal("12.345"), "KWD"),
        ("refund", Decimal("20"), "USD"),
    ]
    assert "minor units: check it" in said(made)
    assert "functions: [upper]" in made.yaml and "map:" not in made.yaml.partition("currency:")[2]


@pytest.mark.parametrize(
    ("name", "amount", "more", "value", "currency"),
    [
        ("amount", 1999, {"currency": "usd"}, Decimal("19.99"), "USD"),
        ("amount", 1999, {"currency": "USD"}, 1999, "USD"),
        ("amount_cents", 1999, {}, Decimal("19.99"), None),
        ("price_usd", 12.5, {}, Decimal("12.5"), "USD"),
        ("total", "12.50", {"unit": "CHF"}, Decimal("12.5"), "CHF"),
        ("amount", 500, {"currency": "jpy"}, 500, "JPY"),
    ],
)
def test_the_unit_of_an_amount_is_that_of_the_record(name, amount, more, value, currency, tmp_path):
    records = [
        {"ts": f"2026-03-01T10:{n:02}:00Z", "user": f"u{n}", "event": "purchase", name: amount} | more for n in range(9)
    ]
    _, made = proposed(tmp_path / "x.jsonl", records)
    assert events(made, "value", "currency")[0] == (value, currency)


@pytest.mark.parametrize(
    ("written", "form", "value"),
    [
        ("1.355,9{}", '[{number: {decimal: ","}}]', "1355.91"),
        ("0,5{}", '[{number: {decimal: ","}}]', "0.51"),
        ("1.355,9{} €", '[{number: {decimal: ",", unit: "€"}}]', "1355.91"),
        ("USD 12.5{}", "[{number: {unit: USD}}]", "12.51"),
        ("1,355.9{}", "[number]", "1355.91"),
        ("12.5{}", "", "12.51"),
    ],
)
def test_an_amount_is_read_as_it_is_written(written, form, value, tmp_path):
    rows = "".join(f"0{n}.03.2026 10:00;k{n};{written.format(n)};{written.format(n)}\n" for n in range(1, 9))
    mapping, made = proposed(tmp_path / "x.csv", f"zeit;kunde;preis;rating\n{rows}")
    assert events(made, "value", "rating")[0] == (Decimal(value), float(value))
    stated = f"functions: {form}}}" if form else "preis}"
    assert f"value: {{path: preis{', ' if form else '}'}{stated if form else ''}" in made.yaml
    assert mapping.fields.rating.functions == mapping.fields.value.functions


def test_an_amount_in_several_units_is_not_read(tmp_path):
    rows = "".join(f"01.03.2026 10:{n};k{n};{n},50 {'CHF' if n == 30 else '€'}\n" for n in range(10, 50))
    _, made = proposed(tmp_path / "x.csv", f"zeit;kunde;preis\n{rows}")
    assert "preis: no value: " in said(made)


@pytest.mark.parametrize(
    ("codes", "read"),
    [(["de", "AT"], ["DE", "AT"]), (["DE", "AT"], ["DE", "AT"]), (["de", "Austria"], ["de", "Austria"])],
)
def test_codes_of_countries_are_in_capitals(codes, read, tmp_path):
    records = [{"ts": f"2026-03-01T10:0{n}:00Z", "user": f"u{n}", "country": codes[n % 2]} for n in range(8)]
    mapping, made = proposed(tmp_path / "x.jsonl", records)
    assert [each for (each,) in events(made, "country")][:2] == read
    assert mapping.fields.country.functions == (("upper",) if codes[0] != read[0] else ())


def test_a_thousand_is_not_a_unit(tmp_path):
    content = "zeit;kunde;preis\n" + "".join(f"0{n}.03.2026 10:00;k{n};{n}.000\n" for n in range(1, 9))
    assert "check that it is not a thousand" in said(proposed(tmp_path / "y.csv", content)[1])
    _, made = proposed(tmp_path / "z.csv", content + "09.03.2026 10:00;k9;9,5\n")
    assert "check that it is not a thousand" not in said(made)
    assert [value for (value,) in events(made, "value")][-2:] == [8_000, Decimal("9.5")]


def test_flags_and_signs_become_rules(tmp_path):
    content = "time,user_id,item,is_click\n" + "".join(
        f"2026-03-01 10:{n:02}:00+00:00,u{n},i,{int(n % 5 == 0)}\n" for n in range(20)
    )
    _, made = proposed(tmp_path / "impressions.csv", content)
    assert sorted(each for (each,) in events(made, "event_type")) == ["click"] * 4 + ["impression"] * 20
    records = [
        {"ts": f"2026-03-01T10:{n:02}:00Z", "user": f"u{n}", "UnitPrice": 2.5, "Quantity": -1 if n == 3 else 2}
        for n in range(9)
    ]
    _, made = proposed(tmp_path / "orders.jsonl", records)
    assert events(made, "event_type", "value")[2:4] == [("purchase", 5), ("refund", Decimal("-2.5"))]


def test_what_belongs_to_the_time_and_is_not_read_is_told(tmp_path):
    records = [
        {"user": f"u{n}", "createAt": {"_seconds": 1_584_032_258 + n, "_nanoseconds": 275_000_000}} for n in range(5)
    ]
    _, made = proposed(tmp_path / "x.jsonl", records)
    assert "createAt._nanoseconds holds the fraction" in said(made) or events(made, "event_time")[0][0].microsecond
    records = [{"time": f"2026-03-01 10:{n:02}:00", "user": f"u{n}", "tz": "Europe/Berlin"} for n in range(5)]
    _, made = proposed(tmp_path / "y.jsonl", records)


@pytest.mark.parametrize("default", [False, True])
def test_times_are_read_in_the_zone_that_the_record_names(default, tmp_path):
    records = [{"time": f"2026-03-01 10:{n:02}:00", "user": f"u{n}", "tz": "Europe/Berlin"} for n in range(5)]
    if default:
        records.append({"time": "2026-03-01 08:00:00", "user": "u"})
    mapping, made = proposed(tmp_path / "y.jsonl", records)
    assert (mapping.fields.event_time.time_zone.path, mapping.fields.event_time.time_zone.default) == (
        *("tz", "UTC" if default else None),
    )
    assert [time.hour for (time,) in events(made, "event_time")] == [8] * default + [9] * 5
    assert "its zone is that of tz" in said(made) and "tz" not in made.unused
    records = [{"time": f"2026-03-01T10:{n:02}:00Z", "user": f"u{n}", "tz": "Europe/Berlin"} for n in range(5)]
    mapping, made = proposed(tmp_path / "z.jsonl", records)
    assert mapping.fields.event_time.time_zone is None
    assert "tz holds a zone (Europe/Berlin), which is not used" in said(made)


def test_a_list_of_keys_and_values_shows_its_keys(tmp_path):
    params = [{"key": "page_location", "value": {"string_value": "/a"}}, {"key": "session", "value": {"int_value": 7}}]
    records = [
        {"event_timestamp": 1_767_225_600_000_000 + n, "event_name": "click", "event_params": params} for n in range(5)
    ]
    _, made = proposed(tmp_path / "x.jsonl", records)
    assert "event_params" not in made.unused or "lists of keys and values: page_location, session" in said(made)
