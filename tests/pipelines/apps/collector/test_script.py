"""The script of a web page in Chromium: what a visitor does is in the log, over a real collector."""

import gzip
import http.server
import json
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from pipelines.apps.collector.keys import add_key
from tests.servers.collector import Collecting, collecting, entries_of, free_port
from tests.servers.needed import wait_until

PAGE = """<!doctype html><html><head><title>Shop</title>
<script defer src="{script}"></script></head>
<body style="height: 4000px">
<button id="add" data-event="add_to_cart" data-content="boots" data-value="79.90" data-currency="EUR" data-size="42">
<span>Add</span></button>
<button id="next" onclick="history.pushState(null, '', '/next.html')">Next</button>
</body></html>"""

ADD_SCRIPT = """key => {
    const script = document.createElement("script")
    script.src = "/a.js"
    script.dataset.key = key
    document.documentElement.append(script)
}"""


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_) -> None:
        """Say nothing."""


@pytest.fixture
def site(tmp_path) -> Iterator[tuple[Collecting, str]]:
    """A collector, and the address of a page of another origin that loads its script."""
    port = free_port()
    origin = f"http://127.0.0.1:{port}"
    pages = tmp_path / "pages"
    pages.mkdir()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", port), partial(Quiet, directory=str(pages)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with collecting(tmp_path, "--allow_origins", origin) as collector:
        (pages / "shop.html").write_text(PAGE.format(script=f"http://127.0.0.1:{collector.port}/a.js"))
        (pages / "away.html").write_text("<title>Away</title>")
        yield collector, origin
    server.shutdown()
    server.server_close()


def events_of(log: Path) -> list[dict]:
    return [json.loads(entry.payload) for entry in entries_of(log)]


def types_of(log: Path) -> list[str]:
    return [event["event_type"] for event in events_of(log)]


def test_what_a_visitor_does_is_in_the_log(site, browser):
    collector, origin = site
    page = browser.new_context().new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(f"{origin}/shop.html?utm_campaign=spring", referer="https://search.example/?q=boots")
    page.click("#add span")
    wait_until(lambda: len(types_of(collector.log)) >= 2, what="a view and a click are in the log")
    page.evaluate("scrollTo(0, 2000)")
    page.wait_for_function("performance.now() > 1500")
    page.click("#next")
    page.evaluate("audience('signup', {user_id: 'u-1', plan: 'pro'})")
    wait_until(lambda: "signup" in types_of(collector.log), what="an event of the page's own")
    page.wait_for_function("performance.now() > 3500")
    page.goto(f"{origin}/away.html")
    wait_until(lambda: types_of(collector.log).count("engagement") >= 2, what="what is sent on leaving")
    assert errors == []
    page.context.close()

    found = events_of(collector.log)
    view, click, *_ = found
    assert len({event["event_id"] for event in found}) == len(found)
    assert len({event["session_id"] for event in found}) == 1
    assert {event["channel"] for event in found} == {"web"} and {event["device"] for event in found} == {"desktop"}
    assert (view["event_type"], view["content_id"], view["campaign"]) == ("page_view", "/shop.html", "spring")
    assert view["referrer"] == "https://search.example/"
    assert click["event_type"] == "add_to_cart" and click["properties"] == {"size": "42"}
    assert (click["content_id"], click["value"], click["currency"]) == ("boots", 79.9, "EUR")
    views = [event["content_id"] for event in found if event["event_type"] == "page_view"]
    assert views == ["/shop.html", "/next.html"]
    first = next(event for event in found if event["event_type"] == "engagement")
    assert first["content_id"] == "/shop.html" and first["properties"]["seconds"] >= 1
    assert 50 <= first["properties"]["scroll"] <= 100
    signup = next(event for event in found if event["event_type"] == "signup")
    assert (signup["user_id"], signup["properties"]) == ("u-1", {"plan": "pro"})
    assert all(event["sent_time"] >= event["event_time"] for event in found)


def test_what_was_not_taken_is_sent_again(site, browser):
    collector, origin = site
    context = browser.new_context()
    page = context.new_page()
    refused: list[str] = []

    def refuse(route) -> None:
        refused.append(route.request.post_data)
        route.fulfill(status=503, headers={"Access-Control-Allow-Origin": origin}, body="")

    page.route("**/v1/events*", refuse, times=1)
    page.goto(f"{origin}/shop.html")

    def is_there() -> bool:
        page.evaluate("0")  # the browser's requests are answered here only while it is asked something
        return types_of(collector.log) == ["page_view"]

    wait_until(is_there, what="the second try is in the log")
    (sent,) = refused
    assert json.loads(sent)[0]["event_id"] == events_of(collector.log)[0]["event_id"]
    context.close()


def test_a_page_sends_the_key_of_its_source(tmp_path, browser):
    keys, port = tmp_path / "keys.json", free_port()
    key = add_key(keys, "web", "shop")
    with collecting(
        tmp_path, "--keys", str(keys), "--allow_origins", f"http://127.0.0.1:{port}", port=port
    ) as collector:
        page = browser.new_context().new_page()
        page.goto(f"http://127.0.0.1:{port}/healthz")
        page.evaluate(ADD_SCRIPT, key)
        wait_until(lambda: types_of(collector.log) == ["page_view"], what="the view is in the log")
        page.context.close()
    assert {entry.source for entry in entries_of(collector.log)} == {"shop"}


def test_it_is_small_cached_and_compressed(site):
    collector, _ = site
    plain = collector.ask("/a.js")
    assert plain.status == 200 and plain.headers["content-type"].startswith("text/javascript")
    packed = collector.ask("/a.js", Accept_Encoding="gzip")
    assert packed.headers["content-encoding"] == "gzip" and len(packed.body) <= 2_048
    assert gzip.decompress(packed.body) == plain.body
    assert collector.ask("/a.js", If_None_Match=plain.headers["etag"]).status == 304
    assert collector.ask("/a.js", b"", "POST").status == 405
    assert b"cookie" not in plain.body.lower().replace(b"no cookie", b"")
    assert b"Storage" not in plain.body
