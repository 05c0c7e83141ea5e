"""The demo: real ad impressions and simulated events, from raw files to answers and a report, in a local warehouse."""

import shutil
from collections.abc import Iterable
from datetime import date
from pathlib import Path

from pipelines.apps.report.page import report
from pipelines.apps.simulator.simulate import faults, simulate
from pipelines.batch.backfill import backfill
from pipelines.batch.summary import audit_lines, program
from pipelines.settings.config import TEMPLATES
from pipelines.settings.resolve import resolve
from pipelines.system.private import write_whole
from pipelines.system.terminal import option, put, say, shown
from pipelines.warehouse.ask import run_query
from pipelines.warehouse.interface import Warehouse
from pipelines.warehouse.local.warehouse import LocalWarehouse
from pipelines.warehouse.render import render
from transforms.errors import WarehouseError

EVENTS = 100_000
MARK = "made-by-audience-demo"  # marks the folder of a demo, which the next one may replace; it touches no other
QUESTIONS = (
    (
        "Audit counts: every record is in exactly one place",
        "SELECT source, received, events, duplicates, conflicts, quarantined, balance FROM quality_summary",
    ),
    (
        "Why records are in quarantine",
        "SELECT source, stage, code, SUM(records) AS records FROM quarantine_by_code"
        " GROUP BY ALL ORDER BY records DESC",
    ),
    (
        "Engagement by channel",
        "SELECT channel, SUM(events) AS events, SUM(views) AS views, SUM(impressions) AS impressions,"
        " SUM(clicks) AS clicks, SUM(likes) AS likes, SUM(shares) AS shares, SUM(comments) AS comments"
        " FROM engagement_by_channel GROUP BY channel ORDER BY events DESC",
    ),
    (
        "Top content, with rates",
        "SELECT content_id, category, SUM(views) AS views, SUM(impressions) AS impressions, SUM(clicks) AS clicks,"
        " ROUND(SUM(clicks) / NULLIF(SUM(impressions), 0), 4) AS click_through_rate,"
        " ROUND(SUM(likes + shares + comments) / NULLIF(SUM(views), 0), 4) AS engagement_rate"
        " FROM engagement_by_content GROUP BY content_id, category ORDER BY views DESC, impressions DESC LIMIT 8",
    ),
    (
        "Campaigns: revenue by currency",
        "SELECT campaign, currency, SUM(purchases) AS purchases, SUM(revenue) AS revenue"
        " FROM campaign_1h_current WHERE purchases > 0 GROUP BY campaign, currency ORDER BY revenue DESC LIMIT 8",
    ),
)


def demo(folder: str) -> None:
    """Replace `folder`: simulate, backfill both inputs, answer QUESTIONS on stdout, and write a report."""
    home = prepare_folder(Path(folder))
    simulated, warehouse = home / "events.jsonl", str(home / "warehouse")
    say(f"simulating {EVENTS:,} events into {shown(str(simulated))}")
    simulate(
        events=EVENTS,
        seed=7,
        days=3,
        start=date(2026, 3, 1),
        output=simulated,
        ledger=home / "ledger.json",
        faults=faults(invalid_source=0.0),  # each of these names would be a source of its own
    )
    sample, mapping = TEMPLATES / "samples/ad-impressions/men.csv.gz", TEMPLATES / "mappings/ad-impressions.yaml"
    for options in ({"input": [str(sample)], "mapping": str(mapping)}, {"input": [str(simulated)]}):
        say(f"\nbackfilling {options['input'][0]}")
        say("\n".join(audit_lines(backfill(resolve(options | {"warehouse": warehouse})))))
    answer(LocalWarehouse.open(warehouse), QUESTIONS)
    write_report(LocalWarehouse.open(warehouse), home / "report.html")
    place = option("warehouse", warehouse)
    print(f"\nThe warehouse is {shown(warehouse)}, a folder of Parquet files. Query its tables and views by name:\n")
    print(f'  {program()} query {place} "SHOW TABLES"')
    print(f'  {program()} query {place} "SELECT * FROM user_days_current ORDER BY events DESC LIMIT 5"')
    print(f"  {program()} report {place}")
    print(f"  {program()} backfill {place} --input 'your-events/*.jsonl.gz'")


def write_report(warehouse: Warehouse, path: Path) -> None:
    """Write the report of a warehouse and print its path."""
    write_whole(path, report(warehouse).encode())
    print(f"\nThe report is {shown(str(path))}: open it in a browser.")


def answer(warehouse: Warehouse, questions: Iterable[tuple[str, str]]) -> None:
    """Print the answer to each (title, query in BigQuery's SQL)."""
    for title, sql in questions:
        print(f"\n{title}\n")
        put(render(run_query(warehouse, sql, "bigquery")), "table")


def prepare_folder(home: Path) -> Path:
    """Empty the folder of a demo, but for MARK. Errors: WarehouseError for a folder that no demo made."""
    if home.exists() and any(home.iterdir()):
        if not (home / MARK).exists():
            raise WarehouseError(f"{home} exists and was not made by a demo: name another with --folder")
        shutil.rmtree(home)
    home.mkdir(parents=True, exist_ok=True)
    (home / MARK).touch()
    return home
