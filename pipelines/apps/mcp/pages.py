"""The definitions of the metrics as resources: `audience://metrics/funnel.md` is the page of the funnel."""

from pipelines.apps.report.definitions import Definition, definitions, markdown

SCHEME = "audience://metrics/"


def uri(name: str) -> str:
    """The resource of a metric; links between pages are relative to it."""
    return f"{SCHEME}{name}.md"


def page_of(name: str) -> str:
    """The page of a metric in Markdown."""
    known = definitions()[name]
    return f"# {known.title}\n\n{markdown(known)}\n\n```sql\n{known.query}\n```\n"


def metric_of(view: str) -> dict[str, str] | None:
    """The definition of the numbers of a view; None for one that is of no metric of the catalog."""
    found = next((name for name, each in definitions().items() if view in each.views), None)
    return None if found is None else reference(found)


def reference(name: str) -> dict[str, str]:
    """A metric as an answer names it."""
    known: Definition = definitions()[name]
    return {"metric": name, "title": known.title, "sentence": known.sentence, "resource": uri(name)}
