"""Generate docs/configuration.md, docs/cli.md, the schemas, the template's metadata and the tables for Terraform:

python -m pipelines.apps.reference.configuration
"""

from collections.abc import Iterable, Iterator
from pathlib import Path

from pipelines.apps.reference.cli import PAGE as CLI_PAGE
from pipelines.apps.reference.cli import cli_page, table_lines
from pipelines.apps.reference.terraform import tables_text
from pipelines.dataflow.template import METADATA, metadata
from pipelines.settings.config import TEMPLATES, Quality
from pipelines.settings.json_schema import SCHEMAS, schema_text
from pipelines.settings.keys import Key, keys_of
from pipelines.settings.options import Option
from pipelines.settings.values import FILE_OPTIONS
from pipelines.settings.yaml_line import flow
from transforms.metrics.spec import Measure, MetricSpec
from transforms.sessions.funnel import Funnel

PAGE = "docs/configuration.md"
EXAMPLE = """\
# yaml-language-server: $schema=schemas/configuration.json
warehouse: audience
time_zone: Europe/London
max_lateness: 36h
metrics:
  activity_1m: null   # a shipped metric that is not wanted
  searches_1h:        # one of one's own
    description: What is searched for, and by how many people
    bucket: 1h
    dimensions: [country]
    measures:
      searches: {count: all, where: {event_type: search}}
      people:   {distinct: person, where: {event_type: search}}
quality:
  null_ids: ["", "null", "guest"]
"""
INTRODUCTION = f"""\
# Configuration

<!-- Made by python -m pipelines.apps.reference.configuration: change the declarations, not this page. -->

One YAML file holds what a team fixes once for a warehouse. It is given as `--config`; an option that is typed counts
more than the file, and the file more than the default. All keys may be left out, an unknown key is refused, and a
mistake is told with the file and the path of the key.

```yaml
{EXAMPLE}```

`audience config --show --config audience.yaml` prints what is in force, each key with where its value is from, in the
form of such a file. `audience config --schema` prints a JSON Schema of the file for editors, and `audience config
--schema mapping` one of a mapping; both are shipped in [templates/schemas](../templates/schemas).
"""


def page() -> str:
    """docs/configuration.md."""
    options = table((_option_row(option) for option in FILE_OPTIONS), "Key")
    metric = [key for key in keys_of(MetricSpec) if key.name != "name"]
    sections = (
        ("Keys that are options too", "The same word is an option of the command line.", options),
        ("`quality`", _of(Quality), table(map(_key_row, keys_of(Quality)), "Key")),
        (
            "`funnel`",
            f"{_of(Funnel)} Without it the one of\n[templates/default.yaml](../templates/default.yaml) is asked; "
            "[its page](metrics/funnel.md) says what is counted.",
            table(map(_key_row, keys_of(Funnel)), "Key"),
        ),
        (
            "`metrics`",
            "Metrics by name, beside the shipped ones ([templates/default.yaml](../templates/default.yaml)): a new name"
            "\nadds one, a shipped name states it anew, null leaves it out. Under its name a metric has",
            table(map(_key_row, metric), "Key"),
        ),
        ("A measure", _of(Measure), table(map(_key_row, keys_of(Measure)), "Key")),
    )
    return INTRODUCTION + "".join(f"\n## {title}\n\n{text}\n\n{rows}" for title, text, rows in sections)


def table(rows: Iterable[tuple[str, ...]], first: str) -> str:
    """A table of Markdown."""
    head = (first, "What it is", "Unit", "Default", "Example")
    return "".join(f"{line}\n" for line in table_lines(head, rows))


def _option_row(option: Option) -> tuple[str, ...]:
    default = option.unless or f"`{option.default}`"
    return f"`{option.name}`", option.help, option.unit, default, f"`{option.name}: {option.example}`"


def _key_row(key: Key) -> tuple[str, ...]:
    default = "must be stated" if key.required else "none" if not key.default else f"`{flow(key.default)}`"
    return f"`{key.name}`", key.description, key.unit, default, f"`{key.name}: {flow(key.example)}`"


def _of(struct: type) -> str:
    return (struct.__doc__ or "").splitlines()[0]


def files() -> Iterator[tuple[Path, str]]:
    """Every generated file of a checkout, with what must stand in it."""
    yield TEMPLATES.parent / PAGE, page()
    yield TEMPLATES.parent / CLI_PAGE, cli_page()
    for name in SCHEMAS:
        yield TEMPLATES / "schemas" / f"{name}.json", schema_text(name)
    yield TEMPLATES / METADATA, metadata()
    yield TEMPLATES / "terraform" / "tables.json", tables_text()


def main() -> None:
    """Write them."""
    for path, text in files():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
        print(path)


if __name__ == "__main__":
    main()
