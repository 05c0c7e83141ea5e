"""`audience train`: fit and measure models that predict persons."""

from pipelines.commands import Command
from pipelines.settings.arguments import add_all
from pipelines.settings.refresh_options import AS_OF
from pipelines.settings.resolve import place_of
from pipelines.settings.values import Given, value_of
from pipelines.system.terminal import put, say, shown
from transforms.errors import OptionError

MODEL_DIR = "Folder or bucket of the models (default: that of the configuration, else models/ in the warehouse)"
AS_OF_HELP = "Train on what happened before this time (default: the end of the newest closed bucket)"


def add_options(parser) -> None:
    add_all(parser, ("warehouse", "dataset", "config"))
    parser.add_argument("--model_dir", metavar="DIR", help=MODEL_DIR)
    parser.add_argument("--as_of", metavar="TIME", help=AS_OF_HELP)


def run(values, rest) -> int:
    place = place_of(vars(values))
    as_of = value_of(AS_OF, Given(values.as_of, "option"))
    try:
        from pipelines.insight.predict.train import train
    except ImportError as problem:
        raise OptionError(f"train needs {problem.name}; run: pip install 'audience-insights[predict]'") from None
    import polars as pl

    from pipelines.settings.config import read_config
    from pipelines.warehouse.interface import Result
    from pipelines.warehouse.render import render

    done = train(place, read_config(values.config), values.model_dir, as_of, lambda line: say(shown(line)))
    cards = [each.card for each in done if each.card is not None]
    if cards:
        by = [
            {"target": card.target, "version": card.version, "by": name, "auc": of.auc, "brier": of.brier}
            | {"calibration_error": of.calibration_error, "lift_10": of.lift_10}
            for card in cards
            for name, of in ((card.form, card.model), ("recency alone", card.recency))
        ]
        rows = pl.DataFrame(by).with_columns(pl.col(pl.Float64).round(4))
        put(render(Result(rows.columns, iter([rows])), "table"), "table")
    for each in done:
        if each.card is not None:
            say(shown(f"{each.target}: {each.folder}/card.md"))
        if each.card is not None and each.card.worse is not None:
            say(shown(f"{each.target}: {each.card.worse}; not used without --force"))
        if each.problem:
            say(shown(f"error: {each.problem}"))
    return 2 if any(each.problem for each in done) else 0


COMMAND = Command(
    add_options,
    run,
    "Fit and measure models that predict which persons convert and which leave.",
    "audience train --warehouse warehouse",
)
