"""Our script in Chromium, on a page that sends until standard input ends.

    python -m tests.soak.browser ADDRESS [TRACKER]

TRACKER is the file of Plausible's own tracker, which then sends from a second page, a single-page application: a view
of each page that it leads to, and the engagement with the one before.
"""

import http.server
import shutil
import sys
import threading
from pathlib import Path

from playwright.sync_api import sync_playwright

from tests.servers.browser import NAMES
from tests.soak.clients import EMAIL, TOKEN

PAGE = """<!doctype html><title>Shop</title><script defer src="{address}/a.js"></script>
<script>
const timer = setInterval(() => {{ if (window.audience) audience("tick", {{email: "{email}"}}) }}, 100)
</script>"""
TRACKED = """<!doctype html><title>Shop</title><script type="module">
import {{ init }} from "/tracker.js"
const [endpoint, customProperties] = ["{address}/api/event", {{email: "{email}"}}]
init({{domain: "{token}", endpoint, customProperties, captureOnLocalhost: true}})
window.timer = setInterval(() => history.pushState(null, "", "/" + crypto.randomUUID()), 100)
</script>"""
AFTER_SECONDS = 20  # for what the script still sends again


def main() -> None:
    """Open the pages, and close them when their time is over."""
    address, tracker, stopped = sys.argv[1], sys.argv[2:], threading.Event()
    files = {"/": ("text/html", PAGE.format(address=address, email=EMAIL).encode())}
    if tracker:
        files["/tracked"] = ("text/html", TRACKED.format(address=address, email=EMAIL, token=TOKEN).encode())
        files["/tracker.js"] = ("text/javascript", Path(tracker[0]).read_bytes())

    def wait_for_the_end() -> None:
        sys.stdin.read()
        stopped.set()

    class Site(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            kind, content = files.get(self.path, ("text/plain", b""))
            self.send_response(200 if content else 404)
            self.send_header("content-type", kind)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Site) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with sync_playwright() as player:
            found = next(filter(None, map(shutil.which, NAMES)))
            chromium = player.chromium.launch(executable_path=found, args=["--no-sandbox"])
            site = f"http://127.0.0.1:{server.server_address[1]}"
            shown = [chromium.new_page() for path in files if not path.endswith(".js")]
            for page, path in zip(shown, files, strict=False):
                page.goto(site + path)
            threading.Thread(target=wait_for_the_end, daemon=True).start()
            while not stopped.is_set():
                shown[0].wait_for_timeout(200)
            for page in shown:
                page.evaluate("clearInterval(timer)")
            shown[0].wait_for_timeout(AFTER_SECONDS * 1_000)
            chromium.close()
        server.shutdown()


if __name__ == "__main__":
    main()
