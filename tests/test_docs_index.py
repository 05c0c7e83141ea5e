"""Every page of docs/ is in the index of its folder, once, and every link between pages has a target."""

import re
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
LINK = re.compile(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]+))?\)")
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md", ROOT / "CHANGELOG.md"]
PAGES += sorted(DOCS.rglob("*.md"))
INDEXES = sorted(DOCS.rglob("README.md"))


def links(page: Path) -> list[tuple[Path, str]]:
    """[(target, anchor)] of the links of a page to files of this repository."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    return [((page.parent / path).resolve() if path else page, anchor) for path, anchor in LINK.findall(text)]


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives to the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def listed(index: Path) -> set[Path]:
    """The pages that an index must list: those below its folder, of a folder with an index the index alone."""
    inner = [other.parent for other in INDEXES if other != index and index.parent in other.parents]
    pages = {page for page in index.parent.rglob("*.md") if not any(folder in page.parents for folder in inner)}
    return (pages | {folder / "README.md" for folder in inner}) - {index}


@pytest.mark.parametrize("index", INDEXES, ids=lambda page: page.parent.name)
def test_an_index_lists_every_page_below_it_once(index):
    targets = Counter(path for path, _ in links(index) if path.suffix == ".md" and index.parent in path.parents)
    assert targets == Counter(listed(index))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_a_link_leads_to_a_file_and_to_one_of_its_headings(page):
    broken = [f"{path.name}#{anchor}" for path, anchor in links(page) if not path.exists()]
    broken += [f"{path.name}#{anchor}" for path, anchor in links(page) if anchor and anchor not in anchors(path)]
    assert broken == []


def test_the_readme_fits_its_limit():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150


def test_the_checks_see_what_they_forbid(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("# The `a` page\n[b](b.md#x) [c](#the-a-page)\n```\n[d](d.md)\n```\n[e](https://e.org/x.md)\n")
    assert links(page) == [(tmp_path / "b.md", "x"), (page, "the-a-page")]
    assert anchors(page) == {"the-a-page"}


def test_the_guarantees_of_the_security_page_name_tests_that_exist():
    named = re.findall(r"`([\w/]*test_\w+\.py)`", (ROOT / "SECURITY.md").read_text())
    assert len(named) > 10
    assert [name for name in named if not (ROOT / "tests" / name).exists()] == []
