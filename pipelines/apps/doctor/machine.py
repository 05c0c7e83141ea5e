"""Check what is installed, what each missing part would allow and how to get it, and the state of a warehouse.

`checks` gathers rows of `Check` by section; a new section is another list of them. The module imports nothing that
might be missing, makes no network requests, and writes nothing but a folder for sockets, which it removes.
"""

import ast
import itertools
import json
import os
import platform
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

from pipelines.apps.doctor.check import (
    FILE,
    FOUND,
    LAUNCH,
    MACHINE,
    MADE,
    MISSING,
    OPTIONAL,
    REQUIRED,
    WAREHOUSE,
    WRONG,
    Check,
)
from pipelines.system.csv_line import csv_line
from pipelines.system.terminal import shown

PACKAGE = "audience-insights"
SETUP = Path(__file__).parents[3] / "setup.py"  # in a checkout
SECONDS = 20  # a program that does not print its version within this time counts as broken
GIB = 1 << 30


class Program(NamedTuple):
    """An optional program: the command that prints its version, and `needs`, which fails if it does not work."""

    name: str
    tells: tuple[str, ...]
    allows: str
    get: str
    needs: tuple[str, ...] = ()


PROGRAMS = (
    Program(
        "Java",
        ("java", "-version"),
        "Google's Pub/Sub emulator on this machine",
        "apt install default-jre-headless, or https://adoptium.net (17 or later)",
    ),
    Program("Go", ("go", "version"), "building Prism", "apt install golang-go, or https://go.dev/dl"),
    Program(
        "gcloud",
        ("gcloud", "--version"),
        "launching on Google Dataflow",
        "https://cloud.google.com/sdk/docs/install",
    ),
    Program(
        "Docker",
        ("docker", "--version"),
        "building the image of the flex template",
        "https://docs.docker.com/engine/install; if it is installed, start its daemon",
        ("docker", "info"),
    ),
)


def checks(
    warehouse: str | None,
    dataset: str | None = None,
    before: Callable[[], list[Check]] | None = None,
    landing: str | None = None,
    deep: bool = False,
    config: str | None = None,
) -> list[Check]:
    """Return every row. `warehouse` is the folder of a local warehouse, if any; `dataset` is that of one in BigQuery;
    `landing` is the folder of streams into it; `before` checks what a launch needs, including the dataset; `deep` reads
    each file of the folder; the configuration of `config` names the channels of alerts."""
    required = required_checks()
    found = [*required, *machine_checks(warehouse or tempfile.gettempdir()), *optional_checks()]
    if faults(required):
        return found  # the missing package may be one that reading a warehouse needs
    from pipelines.apps.doctor.answers import answer_checks
    from pipelines.apps.doctor.privacy import access_checks
    from pipelines.apps.doctor.warehouse import dataset_checks, warehouse_checks
    from pipelines.settings.resolve import Place

    if not dataset:
        found += [*warehouse_checks(str(warehouse), deep), *access_checks(Path(str(warehouse)))]
    elif not before:
        found += dataset_checks(dataset)
    if dataset is None or not before:
        found += answer_checks(Place(dataset, warehouse), config)
    if dataset and landing:
        from pipelines.streaming.stop import folder_of

        found += access_checks(folder_of(landing, dataset))
    return found + (before() if before else [])


def faults(rows: Iterable[Check]) -> list[Check]:
    """Return the rows that fail: required parts or parts of a launch that are missing or wrong, and damaged files."""
    needed = (REQUIRED, LAUNCH)
    return [
        row
        for row in rows
        if (row.section in needed and row.state not in (FOUND, MADE))
        or (row.section in (WAREHOUSE, FILE) and row.state == WRONG)
    ]


def required_checks() -> list[Check]:
    """Return rows for Python and each package that setup.py requires."""
    python, packages = _declared()
    version = platform.python_version()
    ok = _fits(f"python{python}", version)
    get = f"Python {python}: https://www.python.org/downloads"
    return [
        Check(REQUIRED, "Python", FOUND if ok else WRONG, version, get=get, facts={"needs": python}),
        *map(_package, packages),
    ]


def _declared() -> tuple[str, list[str]]:
    """Return (Python versions, packages) from setup.py in a checkout, else from the installed metadata."""
    if SETUP.is_file():
        tree = ast.parse(SETUP.read_text(encoding="utf-8"))
        literals = {ast.unparse(node.targets[0]): node.value for node in tree.body if isinstance(node, ast.Assign)}
        words = {
            word.arg: word.value for node in ast.walk(tree) if isinstance(node, ast.Call) for word in node.keywords
        }
        return ast.literal_eval(words["python_requires"]), ast.literal_eval(literals["REQUIRES"])
    packages = [text for text in metadata.requires(PACKAGE) or () if "extra ==" not in text]
    return metadata.metadata(PACKAGE)["Requires-Python"], packages


def _package(requirement: str) -> Check:
    matched = re.match(r"[\w.-]+", requirement)
    assert matched is not None
    name, get = matched[0], f'pip install "{requirement}"'
    try:
        version = metadata.version(name)
    except metadata.PackageNotFoundError:
        return Check(REQUIRED, name, MISSING, f"needs {requirement}", get=get, facts={"needs": requirement})
    ok = _fits(requirement, version)
    detail = version if ok else f"{version}, needs {requirement}"
    return Check(REQUIRED, name, FOUND if ok else WRONG, detail, get=get, facts={"needs": requirement})


def _fits(requirement: str, version: str) -> bool:
    try:
        from packaging.requirements import Requirement
    except ImportError:
        return True  # packaging itself is missing, which another row reports
    return Requirement(requirement).specifier.contains(version, prereleases=True)


def machine_checks(warehouse: str) -> list[Check]:
    """Return rows for cores, memory, sockets, and free disk where the warehouse is or a BigQuery run stages files."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    folder = Path(warehouse).absolute()
    free = shutil.disk_usage(next(each for each in (folder, *folder.parents) if each.is_dir())).free
    return [
        Check(MACHINE, "cores", FOUND, f"{cores}", facts={"cores": cores}),
        Check(MACHINE, "memory", FOUND, f"{memory / GIB:.1f} GiB", facts={"bytes": memory}),
        Check(MACHINE, "free disk", FOUND, f"{free / GIB:.1f} GiB at {folder}", facts={"bytes": free}),
        _sockets(),
    ]


def _sockets() -> Check:
    """Check how the servers that Beam starts for a local run are reached."""
    from pipelines.runners.private_sockets import private_folder
    from transforms.errors import RunnerError

    try:
        with private_folder() as folder:
            detail = f"local runs use Unix sockets, in folders of mode 0700 in {folder.parent}"
    except RunnerError as problem:
        return Check(MACHINE, "sockets", WRONG, "no private folder", get=str(problem))
    return Check(MACHINE, "sockets", FOUND, detail)


def optional_checks() -> list[Check]:
    """Return rows for the optional parts."""
    with ThreadPoolExecutor(len(PROGRAMS)) as at_once:  # some take a second to print their version
        programs = list(at_once.map(_program, PROGRAMS))
    return [*programs, _prism(), _google()]


def _program(program: Program) -> Check:
    def row(state: str, detail: str = "") -> Check:
        return Check(OPTIONAL, program.name, state, detail, program.allows, program.get)

    if not shutil.which(program.tells[0]):
        return row(MISSING)
    output, failed = _output(program.tells)
    version = re.search(r"\d+(?:\.\d+)+", output)
    if failed or not version:
        return row(WRONG, f"{' '.join(program.tells)} fails")
    if program.needs and _output(program.needs)[1]:
        return row(WRONG, f"{version[0]}, but {' '.join(program.needs)} fails")
    return row(FOUND, version[0])


def _output(command: tuple[str, ...]) -> tuple[str, bool]:
    """Return (the output of a program, whether it failed)."""
    try:
        ran = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", timeout=SECONDS
        )
    except (OSError, subprocess.TimeoutExpired):
        return "", True
    return ran.stdout + ran.stderr, ran.returncode != 0


def _prism() -> Check:
    """Whether there is a Prism, and whether it is the one that only its user can reach."""
    from pipelines.runners.choose import JOB_SOCKET, find_prism

    def row(state: str, detail: str = "") -> Check:
        return Check(OPTIONAL, "Prism", state, detail, "streams on this machine", "make prism")

    prism = find_prism()
    if prism is None:
        return row(MISSING)
    if JOB_SOCKET[1:] not in _output((prism, "-h"))[0]:
        return row(WRONG, f"{prism} takes jobs from the whole network")
    return row(FOUND, prism)


def _google() -> Check:
    """Check for Application Default Credentials, without reading them."""
    named = os.environ.get("GOOGLE_APPLICATION_CREDENTIALS")
    home = os.environ.get("CLOUDSDK_CONFIG") or "~/.config/gcloud"
    path = Path(named or f"{home}/application_default_credentials.json").expanduser()
    state, detail = (FOUND, str(path)) if path.is_file() else (MISSING, f"{path} does not exist" if named else "")
    allows = "BigQuery and files on gs://"
    return Check(OPTIONAL, "Google credentials", state, detail, allows, "gcloud auth application-default login")


def lines(rows: list[Check], form: str) -> Iterator[str]:
    """Yield the rows as lines: `table`, `csv`, or `json` with an object per row."""
    if form == "json":
        for row in rows:
            stated = {name: value for name, value in row._asdict().items() if name != "facts"}
            yield shown(json.dumps(stated | row.facts, ensure_ascii=False))
    elif form == "csv":
        yield from (csv_line(row) for row in [Check._fields[:-1], *(row[:-1] for row in rows)])
    else:
        yield from _table([row._replace(name=shown(row.name), detail=shown(row.detail)) for row in rows])


def _table(rows: list[Check]) -> Iterator[str]:
    """Yield a heading for each section, and below a missing or wrong part how to get it."""
    name, state = (max(len(getattr(row, column)) for row in rows) for column in ("name", "state"))
    for section, group in itertools.groupby(rows, lambda row: row.section):
        members = list(group)
        detail = max(len(row.detail) for row in members)
        if members[0] is not rows[0]:
            yield ""
        yield section
        for row in members:
            yield f"  {row.name:<{name}}  {row.state:<{state}}  {row.detail:<{detail}}  {row.allows}".rstrip()
            if row.get and row.state != FOUND:
                yield f"  {'':<{name}}  fix: {row.get}"
