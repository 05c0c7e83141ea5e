"""The marker `servers`, on each test that needs a program beside Python, and what a run says of those it left out.

make test ARGS="-m 'not servers'"    all that runs without Java, Go, Chromium and what `make tools` installs
"""

from collections import Counter

import pytest

# fixture -> the program that it starts
PROGRAMS = {
    "pubsub_emulator": "Java and the Pub/Sub emulator",
    "kafka_broker": "Java and Apache Kafka (make tools)",
    "kafka_cluster": "Java and Apache Kafka (make tools)",
    "prism": "Prism, which Go builds",
    "bigquery_server": "the BigQuery emulator (make tools)",
    "kinesis_server": "the Kinesis emulator (make tools)",
    "storage_server": "fake-gcs-server (make tools)",
    "browser": "Chromium",
}
# The same of a fixture that asks for one where its parameter says so.
PARAMETERS = {"bigquery": "bigquery_server", "PrismRunner": "prism"}
LEFT_OUT = pytest.StashKey[Counter[str]]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[LEFT_OUT] = Counter()


def programs_of(item: pytest.Item) -> set[str]:
    """The programs that a test needs, by its fixtures."""
    names = set(getattr(item, "fixturenames", ()))
    if isinstance(item, pytest.Function) and hasattr(item, "callspec"):
        fixtures = item._fixtureinfo.name2fixturedefs
        for name, value in item.callspec.params.items():
            if isinstance(value, str) and any("request" in each.argnames for each in fixtures.get(name, ())):
                names.add(PARAMETERS.get(value, ""))
    return {program for name, program in PROGRAMS.items() if name in names}


@pytest.hookimpl(tryfirst=True)  # before -m looks for it
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if programs_of(item):
            item.add_marker("servers")


def pytest_deselected(items: list[pytest.Item]) -> None:
    for item in items:
        item.config.stash[LEFT_OUT].update(f"needs {program}" for program in programs_of(item))


def pytest_sessionfinish(session: pytest.Session) -> None:
    output = getattr(session.config, "workeroutput", None)  # of a process of pytest-xdist
    if output is not None:
        output["left_out"] = dict(session.config.stash[LEFT_OUT])


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node) -> None:
    # Each process deselects the same tests.
    node.config.stash[LEFT_OUT] |= Counter(getattr(node, "workeroutput", {}).get("left_out", {}))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """One line for each reason, with the number of tests."""
    reports = terminalreporter.stats.get("skipped", [])
    skipped = Counter(str(report.longrepr[2]).removeprefix("Skipped: ") for report in reports)
    deselected = terminalreporter.config.stash[LEFT_OUT]
    if skipped or deselected:
        terminalreporter.section("what did not run")
    for how, found in (("skipped", skipped), ("deselected", deselected)):
        for why, tests in found.most_common():
            terminalreporter.line(f"{tests:5} {'test' if tests == 1 else 'tests'} {how}: {why}")
