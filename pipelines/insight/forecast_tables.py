"""The tables of forecasts: what is expected of each series, and how good such forecasts were."""

from pipelines.insight.tables import answers_table
from pipelines.warehouse.tables import Column, Table


def _forecasts(every: str, ahead: str, season: str) -> Table:
    """The table of the forecasts of hours or of days."""
    measures = (
        Column("expected", "FLOAT64", "REQUIRED", "what is expected, by `method`; in the unit of the metric"),
        Column("lower_80", "FLOAT64", "NULLABLE", "lower end of the 80 % interval; NULL: too short a history"),
        Column("upper_80", "FLOAT64", "NULLABLE", "upper end of the 80 % interval"),
        Column("lower_95", "FLOAT64", "NULLABLE", "lower end of the 95 % interval"),
        Column("upper_95", "FLOAT64", "NULLABLE", "upper end of the 95 % interval"),
        Column("seasonal_naive", "FLOAT64", "NULLABLE", f"the value of {season}; NULL: not known"),
        Column("method", "STRING", "REQUIRED", "`smoothing`, or `seasonal_naive` where that had no larger error"),
        Column("mase", "FLOAT64", "NULLABLE", "mean absolute scaled error in the back-test; NULL: no origin"),
        Column("smape", "FLOAT64", "NULLABLE", "symmetric mean absolute percentage error in the back-test, 0 to 200"),
        Column("relative_error", "FLOAT64", "NULLABLE", "mean of both errors, each divided by the seasonal naive's"),
        Column("coverage_80", "FLOAT64", "NULLABLE", "share of past values within the 80 % interval, 0 to 1"),
        Column("coverage_95", "FLOAT64", "NULLABLE", "share of past values within the 95 % interval, 0 to 1"),
        Column("origins", "INT64", "REQUIRED", "forecasts of the past that the back-test judged"),
    )
    return answers_table(
        f"forecasts_1{every[0]}",
        f"What is expected of each metric, {ahead} ahead, by {every}, with intervals and past errors.",
        (
            Column("metric", "STRING", "REQUIRED", "metric: events, events:<event_type>, sessions, ..."),
            Column("channel", "STRING", "NULLABLE", "channel; NULL: all together"),
            Column("bucket_start", "TIMESTAMP", "REQUIRED", f"start of the {every}, UTC"),
            Column("bucket_end", "TIMESTAMP", "REQUIRED", f"end of the {every}, UTC"),
            *measures,
        ),
        key=("metric", "channel", "bucket_start"),
    )


FORECASTS_1H = _forecasts("hour", "48 hours", "the same hour of the day or the week before, whichever was nearer")
FORECASTS_1D = _forecasts("day", "28 days", "the same day of the week before")
