"""Our script in Chromium, on a page that sends until standard input ends: python -m tests.soak.browser ADDRESS"""

import http.server
import shutil
import sys
import threading

from playwright.sync_api import sync_playwright

from tests.servers.browser import NAMES
from tests.soak.clients import EMAIL

PAGE = """<!doctype html><title>Shop</title><script defer src="{address}/a.js"></script>
<script>
const timer = setInterval(() => {{ if (window.audience) audience("tick", {{email: "{email}"}}) }}, 100)
</script>"""
AFTER_SECONDS = 20  # for what the script still sends again


def main() -> None:
    """Open the page, and close it when its time is over."""
    page, stopped = PAGE.format(address=sys.argv[1], email=EMAIL).encode(), threading.Event()

    def wait_for_the_end() -> None:
        sys.stdin.read()
        stopped.set()

    class Site(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("content-type", "text/html")
            self.end_headers()
            self.wfile.write(page)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Site) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with sync_playwright() as player:
            found = next(filter(None, map(shutil.which, NAMES)))
            chromium = player.chromium.launch(executable_path=found, args=["--no-sandbox"])
            shown = chromium.new_page()
            shown.goto(f"http://127.0.0.1:{server.server_address[1]}/")
            threading.Thread(target=wait_for_the_end, daemon=True).start()
            while not stopped.is_set():
                shown.wait_for_timeout(200)
            shown.evaluate("clearInterval(timer)")
            shown.wait_for_timeout(AFTER_SECONDS * 1_000)
            chromium.close()
        server.shutdown()


if __name__ == "__main__":
    main()
