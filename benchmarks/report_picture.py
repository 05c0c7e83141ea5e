"""The picture of a report that README shows: the top of the demo's page, as Chromium draws it.

    audience demo && python -m benchmarks.report_picture demo/report.html docs/report.png

Needs playwright (the extra `test`) and Chromium (Debian: apt-get install chromium).
"""

import argparse
import shutil
from pathlib import Path

WIDTH, HEIGHT = 1200, 756  # tiles and the first two charts
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def take_picture(report: Path, output: Path) -> None:
    """Write the top of a report's page as a PNG."""
    from playwright.sync_api import sync_playwright

    browser_path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser_path is None:
        raise SystemExit(f"no browser: none of {', '.join(BROWSERS)} is installed")
    with sync_playwright() as player:
        # In a container the user may lack the rights that the sandbox needs; the page is our own.
        browser = player.chromium.launch(executable_path=browser_path, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT}, color_scheme="light")
        page.goto(report.resolve().as_uri())
        page.screenshot(path=output)
        browser.close()


def main() -> None:
    """Take the picture and print its size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("report", type=Path)
    parser.add_argument("output", type=Path)
    values = parser.parse_args()
    take_picture(values.report, values.output)
    print(f"{values.output}: {values.output.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
