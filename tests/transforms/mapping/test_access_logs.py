"""The shipped mappings of access logs, over lines as servers write them, and as attackers make servers write them."""

import gzip
import json
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from pipelines.settings.config import TEMPLATES, read_mapping
from pipelines.sources.files.read import CsvFormat, check_inputs, cut, read
from transforms.block import tag_input
from transforms.event_time import settle_event_time
from transforms.mapping import required_columns
from transforms.parse import parse
from transforms.validate import Validator

NINE = datetime(2026, 3, 1, 9, tzinfo=UTC)
SAFARI = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_3 like Mac OS X) AppleWebKit/605.1.15 Version/18.3 Mobile/15E148"
FIREFOX = "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:135.0) Gecko/20100101 Firefox/135.0"


def read_log(name: str, path: Path, block_bytes: int = 1 << 20) -> tuple[list[dict], list[tuple[str, bytes]]]:
    """(the events, (code, payload) of what is rejected) of a file by a shipped mapping, as a backfill makes them."""
    mapping = read_mapping(str(TEMPLATES / "mappings" / f"{name}.yaml"))
    csv = mapping.csv or CsvFormat()
    [file] = check_inputs([str(path)], mapping.format or "auto", csv, required_columns(mapping))
    events, rejected = [], []
    for part in cut(file, csv, block_bytes):
        for block in read(part, mapping.source, csv, block_bytes):
            parsed, unparsed = parse(tag_input(block, "log"), mapping, mapping.source)
            valid, invalid = Validator()(parsed)
            made, timeless = settle_event_time(valid)
            events += made.drop("payload").to_dicts()
            rejected += pl.concat([unparsed, invalid, timeless]).select("code", "payload").rows()
    for event in events:
        event["extra"] = json.loads(event["extra"] or "{}")
        event["properties"] = json.loads(event["properties"] or "{}")
    return events, rejected


def events_of(name: str, *lines: str, path: Path) -> list[dict]:
    """The events of these lines, of which none is rejected."""
    path.write_text("".join(f"{line}\n" for line in lines))
    events, rejected = read_log(name, path)
    assert rejected == []
    return events


@pytest.fixture
def log(tmp_path):
    return tmp_path / "access.log"


# Apache and nginx


def line(request="GET / HTTP/1.1", status=200, agent=FIREFOX, client="203.0.113.7", user="-", referrer="-", at=None):
    at = at or "01/Mar/2026:09:00:00 +0000"
    return f'{client} - {user} [{at}] "{request}" {status} 512 "{referrer}" "{agent}"'


@pytest.mark.parametrize(
    ("request_line", "status", "event_type", "content_id"),
    [
        ("GET /shoes?size=42#top HTTP/1.1", 200, "page_view", "/shoes"),
        ("GET /caf%C3%A9 HTTP/2.0", 304, "page_view", "/café"),
        (r"GET /caf\xC3\xA9 HTTP/1.1", 206, "page_view", "/café"),
        ("GET /v1.2/notes HTTP/1.1", 200, "page_view", "/v1.2/notes"),
        ("GET http://shop.example/a HTTP/1.1", 200, "page_view", "/a"),
        ("GET //wp/a HTTP/1.1", 200, "page_view", "//wp/a"),
        ("GET /", 200, "page_view", "/"),
        ("GET /a.CSS?v=3 HTTP/1.1", 200, "request", "/a.CSS"),
        ("GET /robots.txt HTTP/1.1", 200, "request", "/robots.txt"),
        ("POST /cart HTTP/1.1", 200, "request", "/cart"),
        ("HEAD / HTTP/1.1", 200, "request", "/"),
        ("GET /old HTTP/1.1", 301, "request", "/old"),
        ("GET /slow HTTP/1.1", 499, "request_failed", "/slow"),
        ("GET /gone HTTP/1.1", 404, "request_failed", "/gone"),
        (r"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\x22\x5C", 400, "request_failed", None),
        (r"\x03", 400, "request_failed", None),
        ("-", 408, "request_failed", None),
        ("", 400, "request_failed", None),
        (r"GET /\"><script>alert(\\x22)</script> HTTP/1.1", 400, "request_failed", '/"><script>alert(\\x22)</script>'),
        ("OPTIONS * HTTP/1.0", 200, "request", "*"),
        ("CONNECT shop.example:443 HTTP/1.1", 405, "request_failed", "shop.example:443"),
        (f"GET /{'é' * 50}{'x' * 9_000} HTTP/1.1", 414, "request_failed", f"/{'é' * 50}{'x' * 205}"),
    ],
)
def test_a_request_is_a_page_view_if_a_page_was_sent(log, request_line, status, event_type, content_id):
    (event,) = events_of("access-log", line(request_line, status), path=log)
    assert (event["event_type"], event["content_id"]) == (event_type, content_id)
    assert (event["event_time"], event["channel"], event["is_bot"]) == (NINE, "web", False)
    assert event["extra"]["status"] == str(status)


def test_bytes_that_are_no_text_stay_as_the_server_wrote_them(log):
    (event,) = events_of("access-log", line(r"\x16\x03\x01\x22\x5C\xff", 400), path=log)
    assert event["extra"]["request"] == r"\x16\x03\x01" + '"' + "\\" + r"\xff"


@pytest.mark.parametrize(
    ("agent", "is_bot", "device"),
    [
        (SAFARI, False, "mobile"),
        (FIREFOX, False, "desktop"),
        ("Mozilla/5.0 (iPad; CPU OS 18_3 like Mac OS X) Mobile/15E148", False, "tablet"),
        ("Mozilla/5.0 (Linux; Android 14; CUBOT KINGKONG) Mobile", False, "mobile"),
        (r"Dalvik/2.1.0 (Linux; U; Android 5.1; Alba 10\" Build/LMY47I)", False, "mobile"),
        (r"\x22quoted\x22 \xD0\xBF", False, None),
        ("Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)", True, None),
        ("Mozilla/5.0 (X11; CrOS x86_64 14541.0.0) AppleWebKit/537.36 Chrome/120.0.0.0", False, "desktop"),
        ("Microsoft-CryptoAPI/10.0", False, None),
        ("curl/8.5.0", True, None),
        ("-", True, None),
        ("ELB-HealthChecker/2.0", True, None),
        ("kube-probe/1.29", True, None),
    ],
)
def test_programs_are_recognized_by_their_user_agent(log, agent, is_bot, device):
    (event,) = events_of("access-log", line(agent=agent), path=log)
    assert (event["is_bot"], event["device"]) == (is_bot, device)


def test_escapes_in_a_user_agent_are_read(log):
    agents = (r"a \"b\" c", r"\x22quoted\x22 \xD0\xBF\\x41", "")
    events = events_of("access-log", *(line(agent=agent) for agent in agents), path=log)
    assert [event["properties"].get("user_agent") for event in events] == ['a "b" c', '"quoted" п\\x41', None]


def test_a_visitor_is_an_address_and_a_browser_and_neither_address_is_stored(log):
    one, other = "2001:db8::7", "host-7.isp.example"
    lines = [line(client=one), line(client=one), line(client=other), line(client=one, agent=SAFARI)]
    events = events_of("access-log", *lines, f'{line(client=one)} "198.51.100.4, 10.0.0.1" 0.005', path=log)
    visitors = [event["anonymous_id"] for event in events]
    assert visitors[0] == visitors[1] and len(set(visitors)) == 4
    assert events[4]["extra"]["others"] == "0.005"
    assert not any(address in str(event) for event in events for address in (one, other, "198.51.100.4"))
    assert len({event["event_id"] for event in events[:2]}) == 1  # until it is known how many came before in the file


def test_a_user_whom_the_server_refused_is_none(log):
    events = events_of("access-log", line(user="ann"), line(user="eve", status=401), line(user="-"), path=log)
    assert [event["user_id"] for event in events] == ["ann", None, None]


def test_zones_referrers_and_campaigns(log):
    zones = {"+0530": 3.5, "-0800": 17, "+0000": 9, "+1400": -5}
    lines = [line(at=f"01/Mar/2026:09:00:00 {zone}") for zone in zones]
    events = events_of("access-log", *lines, path=log)
    assert [(event["event_time"] - NINE).total_seconds() / 3600 for event in events] == [
        hours - 9 for hours in zones.values()
    ]
    referrers = {"-": None, "https://a.example/b?q=secret": "https://a.example/b", "x" * 5_000: "x" * 2_048}
    events = events_of("access-log", *(line(referrer=each) for each in referrers), path=log)
    assert [event["referrer"] for event in events] == list(referrers.values())
    target = f"GET /a?b=1&utm_campaign=spring+sale%21{'x' * 300}&c HTTP/1.1"
    (event,) = events_of("access-log", line(target), path=log)
    assert event["campaign"] == f"spring sale!{'x' * 244}"


def test_the_common_format_has_no_browser_so_nothing_is_known_of_it(log):
    common = '203.0.113.7 - frank [10/Oct/2000:13:55:36 -0700] "GET /apache_pb.gif HTTP/1.0" 200 2326'
    (event,) = events_of("access-log", common, path=log)
    assert (event["user_id"], event["is_bot"], event["device"]) == ("frank", False, None)
    assert event["event_time"] == datetime(2000, 10, 10, 20, 55, 36, tzinfo=UTC)


def test_a_line_that_is_none_of_the_format_costs_itself(log):
    wrong = ['"', "x", line(user="John Doe"), f"{line()[:-1]}", line().replace("Mar", "Mrz"), line("\x00", 4_000)]
    log.write_text("".join(f"{each}\n{line()}\n" for each in wrong))
    events, rejected = read_log("access-log", log, 100)
    assert len(events) == len(wrong)
    assert sorted(code for code, _ in rejected) == [
        "invalid_csv",
        "invalid_csv",
        "missing_event_type",
        "missing_event_type",
        "missing_event_type",
        "no_time",
    ]
    assert sorted(payload.decode() for _, payload in rejected) == sorted(wrong)


@pytest.mark.parametrize("block_bytes", [50, 1_000, 1 << 20])
def test_a_log_is_read_the_same_wherever_it_is_cut_and_compressed(tmp_path, block_bytes):
    lines = [line(f"GET /{at} HTTP/1.1", agent=(SAFARI, r"a \"b", "-")[at % 3]) for at in range(40)]
    lines[7] = lines[7].rpartition(' "-" ')[0]
    data = "".join(f"{each}\n" for each in lines).encode()
    (tmp_path / "access.log").write_bytes(data)
    (tmp_path / "access.log.2.gz").write_bytes(gzip.compress(data))
    expected, _ = read_log("access-log", tmp_path / "access.log")
    for name in ("access.log", "access.log.2.gz"):
        events, rejected = read_log("access-log", tmp_path / name, block_bytes)
        assert rejected == []
        assert [event["event_id"] for event in events] == [event["event_id"] for event in expected]
        assert [event["content_id"] for event in events] == [f"/{at}" for at in range(40)]


# Amazon CloudFront

FIELDS = (
    "#Version: 1.0\n#Fields: "
    "date time x-edge-location sc-bytes c-ip cs-method cs(Host) cs-uri-stem sc-status cs(Referer) "
    "cs(User-Agent) cs-uri-query cs(Cookie) x-edge-result-type x-edge-request-id x-host-header cs-protocol "
    "cs-bytes time-taken x-forwarded-for ssl-protocol ssl-cipher x-edge-response-result-type "
    "cs-protocol-version fle-status fle-encrypted-fields c-port time-to-first-byte x-edge-detailed-result-type "
    "sc-content-type sc-content-len sc-range-start sc-range-end"
)


def served(
    at=0, stem="/", status="200", agent="Mozilla/5.0%20(Windows%20NT%2010.0)", query="-", kind="text/html", **more
):
    values = {
        "x-edge-location": "FRA56-P1",
        "c-ip": "2001:db8::7",
        "cs-method": "GET",
        "cs(Referer)": "-",
        "cs(Cookie)": "sid=%2522secret%2522",
    } | more
    values |= {
        "date": "2026-03-01",
        "time": "09:00:00",
        "x-edge-request-id": f"{at:04}lgwHQwZsbG2IhRJ07sn9AkKUFSHS9EX==",
    }
    values |= {"cs-uri-stem": stem, "sc-status": status, "cs(User-Agent)": agent, "cs-uri-query": query}
    values |= {"sc-content-type": kind}
    return "\t".join(values.get(name, "-") for name in FIELDS.partition("#Fields: ")[2].split())


def test_what_cloudfront_encodes_is_decoded_and_its_cookies_are_not_stored(log):
    query = "b=1&utm_campaign=spring%2520sale"
    lines = [
        served(1, "/caf%25C3%25A9", query=query, **{"cs(Referer)": "https://a.example/%25C3%25A9?q=1"}),
        served(2, "/shoes", agent="Mozilla/5.0%2520(iPhone;%2520CPU)"),
        served(3, "/a%2522b", agent="%22Googlebot%22"),
    ]
    events = events_of("cloudfront", FIELDS, *lines, path=log)
    assert [event["content_id"] for event in events] == ["/café", "/shoes", '/a"b']
    assert [event["device"] for event in events] == ["desktop", "mobile", None]
    assert [event["is_bot"] for event in events] == [False, False, True]
    assert (events[0]["campaign"], events[0]["referrer"]) == ("spring sale", "https://a.example/%C3%A9")
    assert {event["event_time"] for event in events} == {NINE}
    assert events[0]["event_id"] == "0001lgwHQwZsbG2IhRJ07sn9AkKUFSHS9EX=="
    assert not any(word in str(event) for event in events for word in ("secret", "2001:db8::7"))


def test_a_page_of_cloudfront_is_known_by_what_was_sent(log):
    lines = {
        served(1, "/a", kind="text/html;%20charset=utf-8"): "page_view",
        served(2, "/api", kind="application/json"): "request",
        served(3, "/a", "304", kind="-"): "page_view",
        served(4, "/a.js", "304", kind="-"): "request",
        served(5, "/a", "302", kind="text/html"): "request",
        served(6, "/a", "000", kind="-"): "request_failed",
        served(7, "/a", "503", kind="text/html"): "request_failed",
        served(8, "/a", **{"cs-method": "POST"}): "request",
    }
    assert [event["event_type"] for event in events_of("cloudfront", FIELDS, *lines, path=log)] == list(lines.values())


def test_cloudfront_logs_of_other_years_have_fewer_or_more_fields(log):
    old = served(1).split("\t")[:12]
    lines = ["\t".join(old), f"{served(2)}\tDE\tE123", served(3, agent="-")]
    log.write_text(f"{FIELDS}\n{lines[0]}\n{FIELDS}\n{lines[1]}\n{lines[2]}\n")
    events, rejected = read_log("cloudfront", log)
    assert rejected == []
    assert [event["id_source"] for event in events] == ["derived", "client", "client"]
    assert [event["is_bot"] for event in events] == [False, False, True]
    assert events[1]["extra"]["others"] == "DE\tE123"


# AWS Application Load Balancer

ALB = (
    "https 2026-03-01T09:00:00.186641Z app/my-lb/50dc6c495c0c9188 {client} 10.0.0.1:80 0.086 0.048 0.037 {status} 200 "
    '0 57 "{request}" "{agent}" ECDHE-RSA-AES128-GCM-SHA256 TLSv1.2 '
    'arn:aws:elasticloadbalancing:us-east-2:1:targetgroup/a/7 "Root=1-58337281-1d84f3d73c47ec4e58577259" '
    '"www.example.com" "arn:aws:acm:us-east-2:1:certificate/1" 1 2026-03-01T09:00:00.000000Z "authenticate,forward" '
    '"-" "-" "10.0.0.1:80" "200" "-" "-" TID_123456'
)
ALB_NEWEST = ' "m.example.com" "/api/" "TransformSuccess" 10.0.0.9 "a b"'


def balanced(
    request="GET https://www.example.com:443/ HTTP/2.0", status="200", client="203.0.113.7:2817", agent=FIREFOX
):
    return ALB.format(request=request, status=status, client=client, agent=agent)


def test_load_balancer_logs_have_fewer_or_more_values_by_their_version(log):
    oldest = balanced().partition(" 2026-03-01T09:00:00.000000Z")[0]
    events = events_of("aws-alb", oldest, balanced(), balanced() + ALB_NEWEST, path=log)
    assert [event["event_time"].microsecond for event in events] == [186641, 0, 0]
    assert [event["event_type"] for event in events] == ["page_view"] * 3
    assert events[2]["extra"]["others"] == "10.0.0.9 a b"
    assert events[2]["extra"]["transformed_uri"] == "/api/"


@pytest.mark.parametrize(
    ("request_line", "status", "event_type", "content_id"),
    [
        ("GET https://www.example.com:443/shoes?x=1 HTTP/1.1", "200", "page_view", "/shoes"),
        (r"GET https://www.example.com:443/a?b=\x22 HTTP/1.1", "200", "page_view", "/a"),
        ("GET http://www.example.com:80/img/a.png HTTP/1.1", "200", "request", "/img/a.png"),
        ("GET ws://www.example.com:80/chat HTTP/1.1", "101", "request", "/chat"),
        ("- http://my-lb-1.us-east-2.elb.amazonaws.com:80- ", "400", "request_failed", None),
        ("- - - ", "460", "request_failed", None),
        ("GET https://[2001:db8::1]:443/a HTTP/1.1", "502", "request_failed", "/a"),
    ],
)
def test_a_request_to_a_load_balancer(log, request_line, status, event_type, content_id):
    (event,) = events_of("aws-alb", balanced(request_line, status), path=log)
    assert (event["event_type"], event["content_id"]) == (event_type, content_id)


def test_the_port_of_a_client_is_no_part_of_a_visitor(log):
    clients = ["203.0.113.7:2817", "203.0.113.7:2818", "[2001:db8::7]:1", "[2001:db8::7]:2", "203.0.113.8:1"]
    events = events_of("aws-alb", *(balanced(client=client) for client in clients), path=log)
    visitors = [event["anonymous_id"] for event in events]
    assert visitors[0] == visitors[1] and visitors[2] == visitors[3] and len(set(visitors)) == 3
    assert not any(address in str(event) for event in events for address in ("203.0.113.7", "2001:db8"))
    assert [event["is_bot"] for event in events_of("aws-alb", balanced(agent="-"), balanced(), path=log)] == [
        True,
        False,
    ]


# Google Cloud


def entry(at=0, status=200, url="https://www.example.com/", **more):
    request = {"requestMethod": "GET", "requestUrl": url, "status": status, "userAgent": FIREFOX, "latency": "0.2s"}
    request |= {"remoteIp": "203.0.113.7", "responseSize": "1750"} | more
    return json.dumps(
        {
            "insertId": f"mr6p8jf{at}",
            "timestamp": "2026-03-01T09:00:00.123456789Z",
            "receiveTimestamp": "2026-03-01T09:00:02.407178441Z",
            "httpRequest": {name: value for name, value in request.items() if value is not None},
            "jsonPayload": {"remoteIp": "203.0.113.7", "statusDetails": "response_sent_by_backend"},
            "logName": "projects/p/logs/requests",
            "trace": "projects/p/traces/4ebc71f1def9274798cac4e8960d0095",
        }
    )


def test_entries_of_cloud_logging(log):
    lines = {
        entry(1, url="https://www.example.com/caf%C3%A9?utm_campaign=a%20b"): ("page_view", "/café", False),
        entry(2, url="http://203.0.113.1/a.css"): ("request", "/a.css", False),
        entry(3, 502): ("request_failed", "/", False),
        entry(4, None, userAgent=None): ("request_failed", "/", True),
        entry(5, 304, userAgent="python-requests/2.32"): ("page_view", "/", True),
        entry(6, 200, requestMethod="POST", remoteIp="2001:db8::7"): ("request", "/", False),
    }
    events = events_of("google-lb", *lines, path=log)
    assert [(event["event_type"], event["content_id"], event["is_bot"]) for event in events] == list(lines.values())
    assert [event["campaign"] for event in events] == ["a b", *[None] * 5]
    assert events[0]["event_id"] == "mr6p8jf1@2026-03-01T09:00:00.123456789Z"
    assert events[0]["event_time"] == NINE.replace(microsecond=123456)
    assert "userAgent" not in events[0]["extra"]["httpRequest"]
    assert not any(address in str(event["extra"]) for event in events for address in ("203.0.113.7", "2001:db8"))


def test_an_entry_of_another_log_is_none_of_a_request(log):
    log.write_text(f'{{"insertId": "a", "timestamp": "2026-03-01T09:00:00Z", "textPayload": "up"}}\n{entry()}\n')
    events, rejected = read_log("google-lb", log)
    assert (len(events), [code for code, _ in rejected]) == (1, ["missing_event_type"])
