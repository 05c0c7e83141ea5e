"""The server as an agent's client starts it: the protocol's own client, over standard input and output."""

import asyncio
import json
import os
import subprocess
import sys

import pytest
from mcp import ClientSession, MCPError, StdioServerParameters
from mcp.client.stdio import stdio_client

from pipelines.apps.report.definitions import definitions
from pipelines.warehouse.local.warehouse import LocalWarehouse
from tests.pipelines.warehouse.test_metric_views import EVENTS, FUNNEL, METRICS, PURCHASES, SESSIONS, VISITS, write
from tests.servers.needed import LIMIT

CANARY = "canary-4f1e@example.com"
ENDLESS = "SELECT COUNT(*) AS n FROM range(100000000000) AS a, range(1000) AS b WHERE (a.range * b.range) % 7 = 3"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> str:
    """A warehouse with a person, a text and a session that no answer may tell of."""
    place = tmp_path_factory.mktemp("stdio") / "w"
    events = [{**each, "user_id": CANARY, "text": f"write to {CANARY}"} for each in (*FUNNEL, *PURCHASES)]
    visits = [{**each, "user_id": CANARY} for each in VISITS]
    write(
        LocalWarehouse.open(place, "UTC", create=True), (EVENTS, events), (SESSIONS, visits), (METRICS["user_days"], [])
    )
    return str(place)


def conversation(folder, talk, *options, log=None):
    """What `talk(session, instructions)` returns, with a server of its own."""
    command = [sys.executable, "-m", "pipelines.cli", "mcp", "--warehouse", folder, *options]
    server = StdioServerParameters(command=command[0], args=command[1:], env=dict(os.environ))

    async def run():
        with open(log or os.devnull, "a") as errors:
            async with stdio_client(server, errlog=errors) as streams, ClientSession(*streams) as session:
                return await talk(session, (await session.initialize()).instructions)

    return asyncio.run(run())


def test_the_official_client_lists_calls_and_reads(folder):
    async def talk(session, instructions):
        assert "Call list_metrics first" in instructions and folder.rsplit("/", 1)[-1] in instructions
        tools = {tool.name: tool for tool in (await session.list_tools()).tools}
        assert all(tool.annotations.read_only_hint for tool in tools.values())
        listed = await session.call_tool("list_metrics", {})
        assert not listed.is_error
        names = {each["metric"] for each in json.loads(listed.content[0].text)["metrics"]}
        assert names == set(definitions())
        resources = {each.name: each.uri for each in (await session.list_resources()).resources}
        assert set(resources) == names
        page = (await session.read_resource(resources["funnel"])).contents[0].text
        assert page.startswith("# Funnel\n")
        with pytest.raises(MCPError, match="allowed: audience://metrics/active-people"):
            await session.read_resource("audience://metrics/../etc.md")
        wrong = await session.call_tool("trend", {"measure": "everything"})
        assert wrong.is_error and "Invalid enum value 'everything'" in wrong.content[0].text
        unknown = await session.call_tool("delete", {})
        assert unknown.is_error and "allowed: list_metrics, " in unknown.content[0].text
        await session.send_ping()
        return json.loads((await session.call_tool("funnel", {})).content[0].text)

    funnel = conversation(folder, talk)
    assert [row[1] for row in funnel["rows"]] == ["page_view", "add_to_cart", "purchase"]
    assert funnel["definition"]["resource"] == "audience://metrics/funnel.md"


def test_no_answer_tells_of_a_person(folder, tmp_path):
    """Every view, every tool, and SQL that tries: neither an answer nor the log has the person."""
    log = tmp_path / "log"

    async def talk(session, instructions):
        texts = [instructions]

        async def call(name, **arguments):
            answer = await session.call_tool(name, arguments)
            texts.append(answer.content[0].text)
            return answer

        listed = json.loads((await call("list_metrics")).content[0].text)
        views = {*listed["other_views"], *(view for each in listed["metrics"] for view in each["views"])}
        for view in (*views, "events", "visits", "identities", "quarantine"):
            assert (await call("query_view", view=view)).is_error is (view not in views), view
        for query in (
            "SELECT * FROM events",
            "SUMMARIZE events",
            "FROM visits",
            "SELECT * FROM query('SELECT * FROM events')",
            "SELECT * FROM query_table('events')",
            "SELECT * FROM main.events",
            f"SELECT * FROM read_parquet('{folder}/data/events/*/*.parquet'), revenue_by_day",
            f"SELECT * FROM '{folder}/data/events/day=2026-03-02/x.parquet', revenue_by_day",
            "SELECT * FROM (PIVOT events ON event_type IN ('purchase') USING first(user_id))",
            "WITH events AS (SELECT 1) SELECT * FROM events",
            "COPY (SELECT 1) TO '/dev/stderr'",
            "SELECT * FROM glob('*')",
        ):
            assert (await call("sql", query=query)).is_error, query
        return texts

    texts = conversation(folder, talk, "--allow_sql", log=log)
    assert len(texts) > 30 and CANARY not in "".join(texts) + log.read_text()


def test_people_are_answered_where_they_are_allowed(folder):
    async def talk(session, instructions):
        return json.loads((await session.call_tool("people_behind", {"view": "events_unique"})).content[0].text)

    assert [row[0] for row in conversation(folder, talk, "--people")["rows"]] == [CANARY]


def test_a_question_that_takes_too_long_is_stopped_and_the_next_one_answered(folder):
    async def talk(session, instructions):
        slow = await session.call_tool("sql", {"query": ENDLESS})
        return slow, await session.call_tool("funnel", {})

    slow, next_one = conversation(folder, talk, "--allow_sql", "--seconds", "2")
    assert slow.is_error and "stopped after 2 s" in slow.content[0].text
    assert not next_one.is_error


def test_lines_that_are_no_messages_are_answered_and_the_end_of_input_ends_it(folder):
    said = subprocess.run(
        [sys.executable, "-m", "pipelines.cli", "mcp", "--warehouse", folder],
        input=b'no json\n{"jsonrpc": "2.0", "id": 1, "method": "ping"}\n\xff\n',
        capture_output=True,
        timeout=LIMIT,
    )
    assert said.returncode == 0
    answers = [json.loads(line) for line in said.stdout.splitlines()]
    assert {"jsonrpc": "2.0", "id": 1, "result": {}} in answers
    assert b"Traceback" not in said.stderr


def test_a_warehouse_that_is_not_there_is_one_line(tmp_path):
    said = subprocess.run(
        [sys.executable, "-m", "pipelines.cli", "mcp", "--warehouse", str(tmp_path / "none")],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=LIMIT,
    )
    assert said.returncode == 2 and said.stderr.startswith("error: ") and said.stderr.count("\n") == 1


def test_without_the_package_the_extra_is_named(folder):
    start = "import sys; sys.modules['mcp'] = None; from pipelines.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", start, "mcp", "--warehouse", folder]
    said = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=LIMIT)
    assert said.returncode == 2
    assert said.stderr == "error: the package mcp is not installed; run: pip install 'audience-insights[mcp]'\n"
