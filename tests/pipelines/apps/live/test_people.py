"""Answers about a person over HTTP: equal to SQL over the tables, for who has a key, gone with an erasure."""

import json
import re
import threading
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from urllib.parse import quote

import pytest

from pipelines.apps.live.people.keys import Readers, add_reader
from pipelines.cli import main
from pipelines.insight import profiles, recommendations
from pipelines.insight.refresh import refresh
from pipelines.settings.config import read_config
from pipelines.settings.resolve import Place
from pipelines.warehouse.local.warehouse import LocalWarehouse
from pipelines.warehouse.tables import EVENTS
from tests.pipelines.warehouse.test_metric_views import write
from tests.servers.live import serving
from tests.servers.needed import wait_until
from transforms.insight.settings import Attribute, Insight, Profiles

T = datetime.now(UTC).replace(microsecond=0) - timedelta(minutes=30)
DAY = timedelta(days=1)
HOSTILE = (
    "a/b?c#d&e=%2F", "../../etc/passwd", "..", "ключ 日本", "'; DROP TABLE events; --", "<script>alert(1)</script>",
    "line\nbreak\r\nX-Evil: 1", "z" * 256, '{"json": "\\"}', "ann.canary@example.org", " ",
    "{person}", "%41", "\U0001f600",
)  # fmt: skip
PERSONS = (*(f"u{number:02}" for number in range(30)), *HOSTILE)
ERASED, STAYS = "u03", "u05"
CONFIGURATION = read_config(None)._replace(
    insight=Insight(
        profiles=Profiles(
            attributes={"clicks": Attribute("count", event_types=("click",)), "kind": Attribute("last", "category")}
        )
    )
)
LISTS = {"interests": "user_interests", "values": "user_values", "attributes": "user_attributes"}


def events() -> list[dict]:
    """Some events of each person: three of six contents, and a purchase in two currencies of every other one."""
    rows: list[dict] = []
    for number, person in enumerate(PERSONS):
        for step in range(3 + number % 4):
            at = T - timedelta(hours=1 + 7 * step, minutes=number)
            rows.append(event(len(rows), person, at, category=f"k{(number + step) % 4}", content_id=f"c{step % 6}"))
        if number % 2:
            for place, currency in enumerate(("EUR", "USD")):
                more = {"value": Decimal("12.345678901") + number, "currency": currency}
                rows.append(event(len(rows), person, T - place * DAY - DAY, event_type="purchase", **more))
    return rows


def event(number: int, person: str, at: datetime, **columns) -> dict:
    own = {"event_id": f"e{number}", "event_time": at, "received_time": at, "source": "web", "user_id": person}
    return own | {"event_type": "click", "channel": "email", "is_bot": False, "input": "i"} | columns


def refreshed(warehouse: LocalWarehouse, as_of: datetime) -> None:
    refresh(Place(None, str(warehouse.folder)), CONFIGURATION, as_of, [profiles.PASS, recommendations.PASS])


class Asked:
    """A page that runs with people switched on."""

    def __init__(self, server, warehouse: LocalWarehouse, keys, key: str):
        self.server, self.warehouse, self.keys, self.key = server, warehouse, keys, key

    def get(self, kind: str, person: str, key: str | None = None, method: str = "GET", **headers):
        own = {"Authorization": f"Bearer {self.key if key is None else key}"} | headers
        return self.server.ask(f"/v1/{kind}/{quote(person, safe='')}", method, **own)


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    folder = tmp_path_factory.mktemp("people")
    warehouse = LocalWarehouse.open(folder / "w", "Europe/Berlin", create=True)
    write(warehouse, (EVENTS, events()))
    refreshed(warehouse, T)
    key, _ = add_reader(folder / "keys.json", "shop", DAY)
    options = ("--warehouse", str(warehouse.folder), "--people_keys", str(folder / "keys.json"))
    with serving(folder, *options) as server:
        yield Asked(server, warehouse, folder / "keys.json", key)


def stored(warehouse: LocalWarehouse, table: str) -> dict[str | None, list[dict]]:
    """The newest rows of each person by SQL over the table, as JSON has them."""
    newest = f"SELECT max(as_of) FROM refreshes WHERE table_name = '{table}'"
    order = {"user_interests": "dimension, place", "user_values": "currency", "recommendations": "place"}
    sql = f"SELECT * EXCLUDE (as_of, pipeline_version) FROM {table} WHERE as_of = ({newest})"
    rows = warehouse.answer(f"{sql} ORDER BY {order.get(table, 'ALL')}").frame().to_dicts()
    found: dict[str | None, list[dict]] = {}
    for row in rows:
        found.setdefault(row.pop("person"), []).append({name: as_json(value) for name, value in row.items()})
    return found


@pytest.fixture(scope="module")
def tables(asked):
    """What the first refresh has stored, by table and person."""
    names = ("user_profiles", "recommendations", *LISTS.values())
    return {name: stored(asked.warehouse, name) for name in names}


def as_json(value):
    if isinstance(value, datetime):
        return value.astimezone(UTC)
    return float(value) if isinstance(value, Decimal) else value


def read(row: dict) -> dict:
    """A row of an answer with its times as times."""
    timed = {
        name: value for name, value in row.items() if isinstance(value, str) and re.fullmatch(r"20\d\d-.*T.*Z", value)
    }
    return row | {name: datetime.fromisoformat(value) for name, value in timed.items()}


@pytest.mark.parametrize("person", ["u00", "u01", "u17", *HOSTILE], ids=lambda person: ascii(person)[:20])
def test_every_field_is_that_of_the_table(asked, tables, person):
    reply = asked.get("profiles", person)
    assert (reply.status, reply.headers["content-type"]) == (200, "application/json")
    found = reply.json()
    assert found["person"] == person and datetime.fromisoformat(found["as_of"]) == T
    assert [read(found["profile"])] == tables["user_profiles"][person]
    for name, table in LISTS.items():
        assert [read(row) for row in found[name]] == tables[table].get(person, []), name
    assert found["interests"] and found["attributes"]
    liked = asked.get("recommendations", person).json()
    own = tables["recommendations"].get(person)
    assert liked["recommendations"] == (own or tables["recommendations"][None]) != []
    assert liked["of"] == ("person" if own else "everybody") and datetime.fromisoformat(liked["as_of"]) == T
    assert "no-store" in reply.headers["cache-control"]
    head = asked.get("profiles", person, method="HEAD")
    assert (head.status, head.body) == (200, b"")


@pytest.mark.parametrize(
    "path",
    [
        "none",
        "U00",
        "u00%20",
        "u00%00",
        "",
        "%",
        "%ff%fe",
        "%ed%a0%80",
        "u00/../u01",
        "a%252Fb",
        "x" * 20_000,
        "u00%2F",
    ],
    ids=lambda path: path[:9] or "empty",
)
def test_a_person_that_nobody_knows_is_not_found(asked, path):
    for kind in ("profiles", "recommendations"):
        reply = asked.server.ask(f"/v1/{kind}/{path}", Authorization=f"Bearer {asked.key}")
        assert (reply.status, reply.json()["code"]) == (404, "not_found")


def test_without_a_valid_key_nothing_is_told(asked):
    add_reader(asked.keys, "old", DAY)
    old, _ = add_reader(asked.keys, "gone", DAY)
    held = json.loads(asked.keys.read_text())
    held["readers"][-1]["until"] = "2026-01-01T00:00:00Z"
    asked.keys.write_text(json.dumps(held))
    wait_until(lambda: asked.get("profiles", "u00", old).status == 401, what="the key has ended")
    wrong = ({}, {"Authorization": "Bearer ar_wrong"}, {"Authorization": asked.key}, {"Cookie": asked.key},
             {"Authorization": f"Basic {asked.key}"}, {"Authorization": f"Bearer {asked.key}x"})  # fmt: skip
    for headers in (*wrong, {"Authorization": f"Bearer {old}"}):
        for path in (
            "/v1/profiles/u00",
            "/v1/recommendations/u00",
            "/v1/profiles/none",
            f"/v1/profiles/u00?key={asked.key}",
        ):
            reply = asked.server.ask(path, **headers)
            assert (reply.status, reply.json()["code"]) == (401, "key_not_valid")
            assert reply.headers["www-authenticate"] == "Bearer"
    assert old not in asked.keys.read_text() and asked.key not in asked.keys.read_text()


def test_a_key_reads_what_it_is_for_as_often_as_it_may(asked):
    key, _ = add_reader(asked.keys, "slow", DAY, ["recommendations"], 0.1)
    wait_until(lambda: asked.get("profiles", "u00", key).status == 403, what="the key is known")
    assert asked.get("profiles", "u00", key).json()["code"] == "not_allowed"
    replies = [asked.get("recommendations", "u00", key) for _ in range(4)]
    assert replies[0].status == 200
    assert (replies[-1].status, replies[-1].json()["code"]) == (429, "too_many_requests")
    assert 1 <= int(replies[-1].headers["retry-after"]) <= 20
    assert asked.get("recommendations", "u00").status == 200


def test_only_this_machine_asks_and_only_to_read(asked):
    assert asked.get("profiles", "u00", Host="evil.example").json()["code"] == "host_not_allowed"
    assert asked.get("profiles", "u00", Host="evil.example").status == 403
    assert asked.server.ask("/person").headers["content-security-policy"].startswith("default-src 'none'")
    assert {asked.get("profiles", "u00", method=each).status for each in ("POST", "PUT", "DELETE", "OPTIONS")} == {405}
    assert "access-control-allow-origin" not in asked.get("profiles", "u00", Origin="https://evil.example").headers


def test_what_was_done_since_is_added_and_says_from_when(asked):
    before = asked.get("profiles", "u02").json()
    live = before["live"]
    assert (live["events"], live["last_seen"]) == (0, None) and datetime.fromisoformat(live["since"]) == T
    seen = datetime.fromisoformat(before["profile"]["last_seen"])
    assert live["recency_seconds"] == pytest.approx((datetime.now(UTC) - seen).total_seconds(), abs=30)
    at = T + timedelta(minutes=5)
    rows = [
        event(9001, "u02", T, content_id="c0"),
        event(9002, "u02", at, content_id="c7", event_type="page_view"),
        event(9003, "u02", at - timedelta(minutes=1), content_id="c8"),
        event(9004, "u02", at + timedelta(minutes=1), is_bot=True),
        event(9005, "new/one", at, content_id="c1"),
        event(9006, "x", at, user_id=None, anonymous_id="visitor", content_id="c1"),
    ]
    write(asked.warehouse, (EVENTS, rows))
    wait_until(lambda: asked.get("profiles", "new/one").status == 200, what="the commit is seen")
    after = asked.get("profiles", "u02").json()
    assert after["profile"] == before["profile"] and after["as_of"] == before["as_of"]
    del after["live"]["recency_seconds"]
    assert read(after["live"]) == {
        "since": T,
        "events": 3,
        "last_seen": at,
        "last_event_type": "page_view",
        "last_content_id": "c7",
    }
    new = asked.get("profiles", "new/one").json()
    assert new["profile"] is None and new["interests"] == [] and new["live"]["events"] == 1
    assert asked.get("profiles", "visitor").json()["live"]["events"] == 1
    assert asked.get("recommendations", "new/one").json()["of"] == "everybody"


def test_a_refresh_replaces_the_rows_while_requests_run(asked, tables):
    known = {T: tables["user_profiles"]["u02"]}
    found: list = []
    stop = threading.Event()

    def go_on() -> None:
        while not stop.is_set():
            found.append(asked.get("profiles", "u02"))

    asking = threading.Thread(target=go_on)
    asking.start()
    try:
        later = T + timedelta(minutes=10)
        refreshed(asked.warehouse, later)
        known[later] = stored(asked.warehouse, "user_profiles")["u02"]
        times = lambda: [datetime.fromisoformat(reply.json()["as_of"]) for reply in found]  # noqa: E731
        wait_until(lambda: later in times(), what="the new answers are shown")
    finally:
        stop.set()
        asking.join()
    assert {reply.status for reply in found} == {200} and set(times()) == {T, later} and times() == sorted(times())
    for reply in found:
        answer = reply.json()
        assert [read(answer["profile"])] == known[datetime.fromisoformat(answer["as_of"])]
        assert answer["live"]["since"] == answer["as_of"]
        assert answer["live"]["events"] == (3 if datetime.fromisoformat(answer["as_of"]) == T else 0)
    assert known[T] != known[later]


def test_who_is_erased_is_not_found_at_once_nor_after_the_next_refresh(asked):
    assert asked.get("profiles", ERASED).status == asked.get("recommendations", ERASED).status == 200
    where = ["--warehouse", str(asked.warehouse.folder)]
    assert main(["person", "--delete", ERASED, *where]) == 0
    assert asked.get("profiles", ERASED).status == asked.get("recommendations", ERASED).status == 404
    refreshed(asked.warehouse, T + timedelta(minutes=10))
    wait_until(lambda: asked.get("profiles", STAYS).status == 200, what="the others are computed again")
    assert asked.get("profiles", ERASED).status == asked.get("recommendations", ERASED).status == 404


def test_the_terminal_names_nobody_and_no_key(asked):
    said = asked.server.said()
    for person in (*HOSTILE, "new/one", "visitor", ERASED):
        asked.get("profiles", person)
        assert len(person) < 3 or person not in asked.server.said()
    assert asked.key not in said and len(said.splitlines()) == 2, said


def test_it_is_off_unless_it_is_switched_on(tmp_path, capsys):
    path = tmp_path / "keys.json"
    assert (
        main(["live", "--people_keys", str(path), "--add_reader", "shop", "--reads", "profiles", "--rate", "50"]) == 0
    )
    printed = capsys.readouterr()
    key = printed.out.strip()
    reader = Readers(path).reader(key)
    assert reader and (list(reader.reads), reader.rate) == (["profiles"], 50) and key not in printed.err
    assert path.stat().st_mode & 0o777 == 0o600
    assert main(["live", "--people_keys", str(path), "--remove_reader", "shop"]) == 0
    assert Readers(path).reader(key) is None
    for argv, line in (
        (["--people_keys", str(path), "--dataset", "p-roject.d"], "--people_keys: only of a folder"),
        (["--add_reader", "x"], "--add_reader needs --people_keys FILE"),
        (["--reads", "profiles"], "--reads: only with --add_reader"),
        (["--people_keys", str(path), "--add_link", "x", "--links", "l"], "--people_keys: not with --add_link"),
        (["--people_keys", str(path), "--remove_reader", "x"], "allowed: none, as the file has no key"),
    ):
        assert main(["live", *argv]) == 2
        assert line in capsys.readouterr().err


def test_a_person_is_shown_on_its_page_to_who_has_the_key(asked, browser):
    person, problems = HOSTILE[0], []
    profile, liked = (asked.get(kind, person).json() for kind in ("profiles", "recommendations"))
    page = browser.new_page()
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("console", lambda said: problems.append(said.text) if "Content Security" in said.text else None)
    page.goto(f"{asked.server.url}person")
    page.fill("#key", "ar_wrong")
    page.fill("#person", person)
    page.click("button")
    page.locator("#said", has_text="send a read key").wait_for()
    assert page.locator("[data-key]").count() == 0
    page.fill("#key", asked.key)
    page.click("button")
    page.wait_for_selector("[data-key=segment]")
    assert page.inner_text("[data-key=segment]") == profile["profile"]["segment"]
    texts = page.locator("td").all_inner_texts()
    assert {each["key"] for each in profile["interests"]} <= set(texts)
    assert {each["content_id"] for each in liked["recommendations"]} <= set(texts)
    assert page.locator("meter").count() >= len(profile["interests"]) and problems == []
    assert asked.key not in page.content() and page.evaluate("localStorage.length + sessionStorage.length") == 0
    page.close()
