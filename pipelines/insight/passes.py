"""PASSES: the passes of a refresh, in the order in which they are shown. Each has a file of its own with `PASS`."""

from pipelines.insight.anomalies import PASS as ANOMALIES
from pipelines.insight.feedback import PASS as FEEDBACK
from pipelines.insight.forecasts import PASS as FORECASTS
from pipelines.insight.freshness import PASS as FRESHNESS
from pipelines.insight.predictions import PASS as PREDICTIONS
from pipelines.insight.profiles import PASS as PROFILES
from pipelines.insight.recommendations import PASS as RECOMMENDATIONS
from pipelines.insight.shape import Pass
from pipelines.insight.trends import PASS as TRENDS

PASSES: tuple[Pass, ...] = (
    FRESHNESS,
    FEEDBACK,
    FORECASTS,
    TRENDS,
    ANOMALIES,
    PROFILES,
    RECOMMENDATIONS,
    PREDICTIONS,
)


def pass_named(name: str) -> Pass:
    """The pass of a name."""
    return next(each for each in PASSES if each.name == name)
