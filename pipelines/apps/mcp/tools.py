"""The tools: name, description, arguments with their JSON schema, and what a call answers.

    call(scope, name, arguments) -> JSON text

Errors: OptionError and other errors of users, in one line.
"""

from collections.abc import Mapping
from typing import Annotated, Any, NamedTuple, Protocol

import msgspec

from pipelines.apps.mcp.answers import encoder, freshness, names_of
from pipelines.apps.mcp.pages import page_of, reference
from pipelines.apps.mcp.questions import Funnel, PeopleBehind, QueryView, Retention, Sql, Trend, columns_of
from pipelines.apps.mcp.scope import Scope
from pipelines.apps.report.definitions import definitions
from transforms.errors import OptionError


class _Arguments(Protocol):
    def ask(self, scope: Scope) -> str:
        """The answer as JSON."""


class ListMetrics(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """No arguments."""

    def ask(self, scope: Scope) -> str:
        """Every metric with its sentence, its page, and the views of it that may be asked."""
        names = scope.names()
        listed = [reference(name) | {"views": [v for v in each.views if v in names]} for name, each in _known()]
        of_metrics = {view for _, each in _known() for view in each.views}
        about = {"name": scope.warehouse.name, "time_zone": scope.warehouse.time_zone, "freshness": freshness(scope)}
        return _json(warehouse=about, metrics=listed, other_views=sorted(names - of_metrics))


class DescribeMetric(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A metric."""

    metric: Annotated[str, msgspec.Meta(description="A name from list_metrics, such as funnel")]

    def ask(self, scope: Scope) -> str:
        """Its page, and the columns of its views that may be asked."""
        known = definitions()
        if self.metric not in known:
            raise OptionError(f"metric: got {self.metric!r}; allowed: {', '.join(known)}")
        names = scope.names()
        views = {v: columns_of(names_of(scope, v)) for v in known[self.metric].views if v in names}
        return _json(**reference(self.metric), page=page_of(self.metric), views=views)


class DescribeView(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A view."""

    view: Annotated[str, msgspec.Meta(description="A view that list_metrics names")]

    def ask(self, scope: Scope) -> str:
        """Its columns with their types."""
        return _json(view=self.view, columns=columns_of(names_of(scope, self.view)))


class Tool(NamedTuple):
    """A tool; its arguments are a Struct that asks."""

    description: str
    arguments: type


TOOLS = {
    "list_metrics": Tool(
        "List the metrics: what each measures, the page that defines it, and the views that answer it. Call it first.",
        ListMetrics,
    ),
    "describe_metric": Tool(
        "Describe a metric: formula, window, effect of late data, and the columns of its views.", DescribeMetric
    ),
    "describe_view": Tool("List the columns of a view with their types.", DescribeView),
    "query_view": Tool(
        "Query a view: columns, filters, order and limit. Rows are not added up; for sums by day use trend.", QueryView
    ),
    "trend": Tool("A measure by day, added up as its definition says, in total or by one column.", Trend),
    "funnel": Tool("The configured funnel: people who reached each step, and conversion rates.", Funnel),
    "retention": Tool("The share of the people of a cohort who were active days or weeks later.", Retention),
    "people_behind": Tool(
        "The people behind a number: those with rows that match the filters, and how many rows. Only if the server "
        "was started with --people.",
        PeopleBehind,
    ),
    "sql": Tool("Run one SELECT over the views. Only if the server was started with --allow_sql.", Sql),
}


def schema_of(arguments: type) -> dict[str, Any]:
    """The JSON schema of the arguments of a tool."""
    _, parts = msgspec.json.schema_components([arguments], ref_template="#/$defs/{name}")
    inner = parts.pop(arguments.__name__)
    return inner | ({"$defs": parts} if parts else {})


def call(scope: Scope, name: str, arguments: Mapping[str, Any]) -> str:
    """The answer of a tool.

    Errors: OptionError for a tool or an argument that does not exist, and what the warehouse raises.
    """
    if name not in TOOLS:
        raise OptionError(f"tool: got {name!r}; allowed: {', '.join(TOOLS)}")
    try:
        asked: _Arguments = msgspec.convert(dict(arguments), TOOLS[name].arguments)
    except msgspec.ValidationError as error:
        raise OptionError(f"{name}: {error}; see the schema of its arguments") from None
    return asked.ask(scope)


def _known():
    return definitions().items()


def _json(**parts: Any) -> str:
    return encoder.encode(parts).decode()
