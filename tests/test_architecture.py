"""What holds for the tree as a whole: who imports whom, how long things may get, what CI and the docs say."""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.servers.needed import LIMIT

ROOT = Path(__file__).parents[1]
MEASURED = ("pipelines", "transforms", "benchmarks")
# A floor imports floors below it only, lazily or not.
FLOORS = (
    "pipelines.__main__",
    "pipelines.launcher",
    "pipelines.reference",
    "pipelines.cli",
    "pipelines.commands",
    "pipelines.apps",
    "pipelines.dataflow",
    "pipelines.streaming",
    "pipelines.batch",
    "pipelines.insight",
    "pipelines.assemble",
    "pipelines.audience",
    "pipelines.sources",
    "pipelines.warehouse",
    "pipelines.runners",
    "pipelines.settings",
    "pipelines.system",
    "pipelines.version",
    "transforms",
)
MOST_ENTRIES = 20  # of pipelines/
MOST_LINES_OF_A_FUNCTION, MOST_LINES_OF_90_PERCENT, MOST_LINES_OF_A_FILE = 60, 30, 400
PINNED = ("REQUIRES", "COLLECT", "KINESIS", "MCP", "PREDICT", "TEST", "BUILD")  # lists of setup.py
ROW_LOOPS = {"iter_rows", "map_elements", "to_dicts", "rows"}
DOCUMENTED = re.compile(r"^([a-z-]+):[^=\n]*?(?:## (.+))?$", re.MULTILINE)


def sources(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def place(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def imported(tree: ast.AST) -> set[str]:
    """Top-level packages that a module imports, also inside functions."""
    nodes = list(ast.walk(tree))
    plain = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    from_ = {node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module}
    return {name.partition(".")[0] for name in plain | from_}


def function_lines(tree: ast.AST) -> dict[str, int]:
    """`name:line` -> lines of each function without its docstring, nested ones too."""
    lengths = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            head = node.body[0]
            documented = ast.get_docstring(node) is not None
            docstring = head.end_lineno - head.lineno + 1 if documented else 0
            lengths[f"{node.name}:{node.lineno}"] = node.end_lineno - node.lineno + 1 - docstring
    return lengths


def unlabelled(tree: ast.AST) -> list[int]:
    """Lines of `pcollection | beam.Something(...)`: Beam would name the step after its class or its line."""
    operations = [node for node in ast.walk(tree) if isinstance(node, ast.BinOp)]
    right = [operation.right for operation in operations if isinstance(operation.op, ast.BitOr)]
    calls = [node for node in right if isinstance(node, ast.Call)]
    return [call.lineno for call in calls if ast.unparse(call).startswith("beam.")]


def row_loops(tree: ast.AST) -> list[int]:
    """Lines of calls that visit each row in Python."""
    called = [node.func for node in ast.walk(tree) if isinstance(node, ast.Call)]
    return [func.lineno for func in called if isinstance(func, ast.Attribute) and func.attr in ROW_LOOPS]


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


@pytest.mark.parametrize(
    ("folder", "forbidden"),
    [("transforms", {"pipelines", "tests", "benchmarks"}), ("tests/oracle", {"pipelines", "transforms"})],
)
def test_no_module_imports_upward(folder, forbidden):
    assert (ROOT / folder).is_dir(), f"{folder} is gone; change this test with it"
    wrong = {place(path): sorted(imported(parsed(path)) & forbidden) for path in sources(folder)}
    assert {path: names for path, names in wrong.items() if names} == {}


@cache
def modules() -> dict[str, Path]:
    """Every module of the product by its name; a package is the name of its `__init__`."""
    paths = {path.relative_to(ROOT).with_suffix(""): path for path in sources("pipelines", "transforms")}
    return {".".join(path.parts).removesuffix(".__init__"): source for path, source in paths.items()}


@cache
def product_arrows() -> set[tuple[str, str]]:
    """The arrows of the product, found once."""
    return arrows({name: parsed(path) for name, path in modules().items()})


def arrows(trees: dict[str, ast.Module]) -> set[tuple[str, str]]:
    """(module, module that it imports) of the product's own modules, also inside functions, not for types alone."""
    found = set()
    for name, tree in trees.items():
        for node in runtime_nodes(tree):
            if isinstance(node, ast.Import):
                found |= {(name, alias.name) for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                inner = {alias.name: f"{node.module}.{alias.name}" for alias in node.names}
                found |= {(name, full if full in trees else str(node.module)) for full in inner.values()}
    return {(name, other) for name, other in found if other in trees and other != name}


def runtime_nodes(tree: ast.AST) -> Iterator[ast.AST]:
    """All nodes but those under `if TYPE_CHECKING`."""
    for node in ast.iter_child_nodes(tree):
        if not (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"):
            yield node
            yield from runtime_nodes(node)


def floor(module: str) -> int:
    """The floor that a module is on, the top one 0."""
    return next(at for at, room in enumerate(FLOORS) if f"{module}.".startswith(f"{room}."))


def within(folder: str, pairs: set[tuple[str, str]]) -> dict[str, set[str]]:
    """Of the arrows inside a package, those between its entries: files and packages."""
    depth = folder.count(".") + 1 if folder else 0
    graph: dict[str, set[str]] = {}
    for pair in pairs:
        if all(f"{name}.".startswith(f"{folder}." if folder else "") and name != folder for name in pair):
            one, other = (".".join(name.split(".")[: depth + 1]) for name in pair)
            if one != other:
                graph.setdefault(one, set()).add(other)
    return graph


def circle(graph: dict[str, set[str]]) -> list[str]:
    """A circle of arrows, or nothing."""
    try:
        list(TopologicalSorter(graph).static_order())
    except CycleError as found:
        return found.args[1]
    return []


PACKAGES = sorted({name.rpartition(".")[0] for name in modules()})


def test_every_module_imports_down_the_floors_only():
    upward = {f"{name} imports {other}" for name, other in product_arrows() if floor(other) < floor(name)}
    assert upward == set()


@pytest.mark.parametrize("package", PACKAGES)
def test_no_import_circle_at_any_level(package):
    assert circle(within(package, product_arrows())) == []


def test_no_two_modules_import_each_other():
    assert circle({name: {other for at, other in product_arrows() if at == name} for name in modules()}) == []


def test_one_warehouse_never_imports_the_other():
    local, bigquery = "pipelines.warehouse.local.", "pipelines.warehouse.bigquery."
    crossing = [
        pair
        for pair in product_arrows()
        if {name[: len(at)] for name in pair for at in (local, bigquery)} >= {local, bigquery}
    ]
    assert crossing == []


def test_pipelines_has_at_most_20_entries():
    entries = [path for path in (ROOT / "pipelines").iterdir() if path.name != "__pycache__"]
    assert len(entries) <= MOST_ENTRIES


def test_each_package_says_what_it_holds():
    packages = [path for path in sources("pipelines", "transforms") if path.name == "__init__.py"]
    folders = {path.parent for path in sources("pipelines", "transforms")}
    assert {path.parent for path in packages} == folders, "setup.py leaves out a folder without __init__.py"
    assert [place(path) for path in packages if not ast.get_docstring(parsed(path))] == []


def test_the_checks_of_imports_see_what_they_forbid():
    lazy = {"a.b": ast.parse("def f():\n    from a import c"), "a.c": ast.parse("import a.b"), "a": ast.parse("")}
    assert arrows(lazy) == {("a.b", "a.c"), ("a.c", "a.b")}
    assert circle(within("a", arrows(lazy)))
    assert arrows({"a.b": ast.parse("if TYPE_CHECKING:\n    import a.c"), "a.c": ast.parse("")}) == set()
    assert floor("pipelines.cli") < floor("pipelines.apps.demo.files") < floor("transforms.block")


def test_no_function_is_longer_than_a_screen():
    files = {place(path): function_lines(parsed(path)) for path in sources(*MEASURED)}
    lengths = {f"{file}:{name}": lines for file, names in files.items() for name, lines in names.items()}
    assert {name: n for name, n in lengths.items() if n > MOST_LINES_OF_A_FUNCTION} == {}
    assert sorted(lengths.values())[len(lengths) * 9 // 10] <= MOST_LINES_OF_90_PERCENT


def test_no_file_is_longer_than_400_lines():
    lengths = {place(path): len(path.read_text().splitlines()) for path in sources(*MEASURED)}
    assert {name: n for name, n in lengths.items() if n > MOST_LINES_OF_A_FILE} == {}


def test_transforms_never_loop_over_rows():
    found = {place(path): row_loops(parsed(path)) for path in sources("transforms")}
    assert {path: lines for path, lines in found.items() if lines} == {}


def test_every_step_of_the_graph_has_a_label():
    found = {place(path): unlabelled(parsed(path)) for path in sources("pipelines", "transforms")}
    assert {path: lines for path, lines in found.items() if lines} == {}


def test_the_checks_see_what_they_forbid():
    inside = ast.parse("def f():\n    from pipelines.settings.config import load\n    import os.path")
    assert imported(inside) == {"pipelines", "os"}
    nested = ast.parse('def f():\n    """a\n    b"""\n    def g():\n        pass\n')
    assert function_lines(nested) == {"f:1": 3, "g:4": 2}
    steps = ast.parse("a | 'Read' >> beam.Create([1])\na | 'b' >> x | beam.Map(f)\nint | None")
    assert unlabelled(steps) == [2]
    assert row_loops(ast.parse("frame.rows()\npart.rows\nframe.iter_rows(named=True)")) == [1, 3]


def test_make_alone_lists_at_most_13_targets_each_with_a_line_of_help():
    targets = dict(DOCUMENTED.findall((ROOT / "Makefile").read_text()))
    # Ten, the two for streams (`prism` has a name of its own, because errors name it as what to type), and the one
    # whose data the project does not hold.
    assert len(targets) <= 13
    assert [name for name, text in targets.items() if not text] == []
    command = ["make", "--no-print-directory"]
    listing = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert [line.split()[1] for line in listing.splitlines()] == list(targets)


def test_ci_calls_the_test_command_of_the_readme():
    assert "make test\n" in (ROOT / "README.md").read_text()
    assert re.search(r"^make test\b", (ROOT / ".ci/run").read_text(), re.MULTILINE)
    assert ".ci/run" in (ROOT / "cloudbuild.yaml").read_text()


WHY = sorted((ROOT / "docs/why").glob("*.md"))


def test_the_large_choices_have_a_page():
    pages = {page.stem for page in WHY}
    assert pages >= {"blocks", "bucket-as-a-column", "one-stateful-aggregate", "dedup-window", "polars"}
    assert pages >= {"local-warehouse", "days-and-backfill"}


@pytest.mark.parametrize("page", WHY, ids=lambda page: page.stem)
def test_a_why_page_says_what_was_chosen_instead_of_what_because_and_until_when(page):
    sections = re.split(r"^## (.+)\n", page.read_text(), flags=re.MULTILINE)
    assert sections[1::2] == ["Chosen", "Instead of", "Because", "Revisit when"]
    assert all(body.strip() for body in sections[2::2])


def setup_value(name: str):
    """A literal of setup.py: the constant or keyword argument `name`."""
    for node in ast.walk(parsed(ROOT / "setup.py")):
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == name:
            return ast.literal_eval(node.value)
        if isinstance(node, ast.keyword) and node.arg == name:
            return ast.literal_eval(node.value)
    raise KeyError(name)


def test_the_lock_pins_all_that_setup_asks_for_with_hashes_and_names_no_registry():
    lock = (ROOT / "requirements.lock").read_text()
    entries = re.findall(r"^([a-z0-9-]+)(?:\[.*?\])?==\S+.*(?:\\\n    --hash=\S+ ?)+$", lock, re.MULTILINE)
    assert len(entries) == len(re.findall(r"^[^\s#]", lock, re.MULTILINE)), "a line is no pin with a hash"
    asked = [text for name in PINNED for text in setup_value(name)]
    wanted = {re.match(r"[\w-]+", text)[0].lower() for text in asked}
    assert wanted - set(entries) == set()


def requirements() -> list[Requirement]:
    """All that setup.py asks for, its extras and its Python among it."""
    asked = [text for name in PINNED for text in setup_value(name)]
    return [Requirement(text) for text in (*asked, f"python{setup_value('python_requires')}")]


@pytest.mark.parametrize("required", requirements(), ids=lambda each: each.name)
def test_what_setup_asks_for_is_bounded_on_both_sides_and_the_lock_is_within(required):
    operators = {each.operator for each in required.specifier}
    assert operators in ({">=", "<"}, {"=="}), "a version below and one above, or one alone"
    pinned = re.findall(rf"^{required.name.lower()}==([^ ;]+)", (ROOT / "requirements.lock").read_text(), re.MULTILINE)
    assert pinned or required.name == "python"
    assert [version for version in pinned if version not in required.specifier] == []


def test_the_build_asks_for_the_setuptools_of_setup():
    built = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]
    assert set(built) <= set(setup_value("BUILD"))


def test_every_data_file_of_templates_is_packaged():
    folder = ROOT / "templates"
    data = {path for path in folder.rglob("*") if path.suffix in {".yaml", ".sql", ".json", ".gz"}}
    packed = {path for pattern in setup_value("package_data")["templates"] for path in folder.glob(pattern)}
    assert data - packed == set()
    assert folder / "samples/ad-impressions/men.csv.gz" in packed


def rooms() -> dict[str, set[str]]:
    """The floors that each floor imports, without those that follow from others."""
    names = {room: room.rpartition(".")[2] for room in FLOORS}
    direct: dict[str, set[str]] = {name: set() for name in names.values()}
    for pair in product_arrows():
        above, below = (names[FLOORS[floor(module)]] for module in pair if module != "pipelines")
        if above != below:
            direct[above].add(below)
    reached: dict[str, set[str]] = {}
    for room in reversed(list(direct)):
        reached[room] = direct[room].union(*(reached[below] for below in direct[room]))
    return {
        room: {one for one in below if not any(one in reached[other] for other in below - {one})}
        for room, below in direct.items()
    }


def test_the_diagram_of_the_architecture_is_that_of_the_imports():
    page = (ROOT / "docs/architecture.md").read_text()
    drawn = re.findall(r"^    (\w+) --> (\w+)$", page, re.MULTILINE)
    assert sorted(drawn) == sorted((room, one) for room, below in rooms().items() for one in below)
    described = re.findall(r"`(\w+)`", "".join(re.findall(r"^\| (`.*?) \|", page, re.MULTILINE)))
    assert set(described) >= {room.rpartition(".")[2] for room in FLOORS} - {"version"}


def test_every_file_that_the_architecture_names_exists():
    page = (ROOT / "docs/architecture.md").read_text()
    named = set(re.findall(r"`((?:\w+/)*\w+\.py|(?:\w+/)+)`", page))
    here = [ROOT, ROOT / "pipelines"]
    assert [name for name in sorted(named) if not any((folder / name).exists() for folder in here)] == []
    assert len(named) > 20


def test_an_import_starts_no_threads_of_polars():
    """What forks, as the tests that kill commands do, would have a pool without threads, and wait without end."""
    names = sorted(name for name in modules() if not name.endswith("__main__") and name != "pipelines.runners.worker")
    program = (
        "import importlib, pathlib\n"
        f"for name in {names!r}:\n"
        "    importlib.import_module(name)\n"
        "    threads = {path.read_text().strip() for path in pathlib.Path('/proc/self/task').glob('*/comm')}\n"
        "    assert 'polars-0' not in threads, name\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=LIMIT)
    assert done.returncode == 0, done.stderr[-500:]
