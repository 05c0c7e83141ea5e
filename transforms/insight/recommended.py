"""The rows of recommendations and of similar contents, of what persons saw.

A content is rising if more persons saw it in 7 days than a third of those of the 21 days before, by RISING deviations
of a count: 2 (sqrt(n + 3/8) - sqrt(m + 3/8)), Anscombe 1948. What is popular has the largest sum of weights of persons,
each at most 1. Where nothing similar is left, popular and rising contents follow in turn.
"""

import numpy as np
import polars as pl

from transforms.insight.recommend import NOBODY, Best, Saw, Similar, best, similar
from transforms.insight.settings import Recommendations

RISING = 2.0
SPARE = 100  # popular and rising contents beyond the places: what a person saw of them is left out
ROWS = {
    "person": pl.String,
    "place": pl.Int64,
    "content_id": pl.String,
    "reason": pl.String,
    "because": pl.String,
    "score": pl.Float64,
}
SIMILAR_ROWS = {
    "content_id": pl.String,
    "place": pl.Int64,
    "similar_content_id": pl.String,
    "similarity": pl.Float64,
    "persons": pl.Int64,
}


def recommended(
    seen: pl.DataFrame, recent: pl.DataFrame, hidden: pl.Series, settings: Recommendations
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Rows in the columns ROWS and SIMILAR_ROWS.

    seen    person, content_id String, weight Float64 above 0, place Int64 by weight: a row for each person and content,
            in any order; those up to `of_person` count, all of them were seen
    recent  content_id, persons_7d, persons_before
    hidden  contents that are never recommended
    """
    contents = _contents(seen, settings.contents)
    people, saw, without = _entries(seen, contents, settings)
    names = contents["content_id"]
    if names.is_empty():
        return pl.DataFrame(schema=ROWS), pl.DataFrame(schema=SIMILAR_ROWS)
    allowed = ~names.is_in(hidden.implode()).to_numpy()
    near = similar(saw, allowed, max(settings.neighbours, settings.places), settings.least_persons)
    otherwise, rising = _otherwise(contents, recent, allowed, settings.places + SPARE)
    used = Similar(*(part[:, : settings.neighbours] for part in near))
    stranger = Saw(np.zeros(2, np.int64), saw.content[:0], saw.weight[:0])
    nobody = best(stranger, used, otherwise, settings.places, stranger)
    found = best(saw, used, otherwise, settings.places, without)
    strangers = _rows(nobody, pl.Series("person", [None], pl.String), names, rising)
    return pl.concat([strangers, _rows(found, people, names, rising)]), _similar_rows(near, names, settings.places)


def _contents(seen: pl.DataFrame, most: int) -> pl.DataFrame:
    """content_id, persons, popular: those that most persons saw, in this order; of equal ones the smaller name."""
    weight = pl.min_horizontal((pl.col("weight") * 1e6).round().cast(pl.Int64), 1_000_000)
    counted = seen.group_by("content_id").agg(persons=pl.len(), popular=weight.sum())
    return counted.sort(-pl.col("persons").cast(pl.Int64), "content_id").head(most).with_row_index("content")


def _entries(seen: pl.DataFrame, contents: pl.DataFrame, settings: Recommendations) -> tuple[pl.Series, Saw, Saw]:
    """The persons, what counts of each, and what is not recommended to it."""
    entries = seen.join(contents.select("content_id", "content"), on="content_id").sort("person", "content")
    begins = entries.select(pl.col("person").ne_missing(pl.col("person").shift(1)) | (pl.int_range(pl.len()) == 0))
    begin = begins.to_series().to_numpy()
    people, person = entries["person"].filter(begins.to_series()), np.cumsum(begin) - 1
    content, weight = entries["content"].cast(pl.Int64).to_numpy(), entries["weight"].to_numpy()

    def part(chosen: np.ndarray) -> Saw:
        first = np.searchsorted(person[chosen], np.arange(len(people) + 1))
        return Saw(first, content[chosen], weight[chosen])

    counts = entries["place"].to_numpy() <= settings.of_person
    return people, part(counts), part(np.full(len(person), not settings.again))


def _otherwise(
    contents: pl.DataFrame, recent: pl.DataFrame, allowed: np.ndarray, most: int
) -> tuple[np.ndarray, np.ndarray]:
    """Numbers below 1 by which contents are taken where nothing is similar, 0: never; whether each is rising."""
    joined = contents.join(recent, on="content_id", how="left", maintain_order="left").with_columns(
        pl.col("persons_7d", "persons_before").fill_null(0).cast(pl.Float64)
    )
    now, before = joined["persons_7d"].to_numpy(), joined["persons_before"].to_numpy() / 3
    pace = 2 * (np.sqrt(now + 0.375) - np.sqrt(before + 0.375))
    rising = np.flatnonzero((pace >= RISING) & allowed)
    rising = rising[np.argsort(-pace[rising], kind="stable")][:most]
    popular = np.argsort(-contents["popular"].to_numpy(), kind="stable")
    popular = popular[allowed[popular] & ~np.isin(popular, rising)][:most]
    turns = min(len(rising), len(popular))
    in_turn = np.stack([popular[:turns], rising[:turns]], 1).reshape(-1)
    listed = np.concatenate([in_turn, popular[turns:], rising[turns:]])
    otherwise, is_rising = np.zeros(contents.height), np.zeros(contents.height, bool)
    otherwise[listed] = 1 - (np.arange(len(listed)) + 1) / (len(listed) + 1)
    is_rising[rising] = True
    return otherwise, is_rising


def _rows(found: Best, people: pl.Series, names: pl.Series, rising: np.ndarray) -> pl.DataFrame:
    row, place = np.nonzero(found.content != NOBODY)
    content, score, because = (part[row, place] for part in found)
    reason = np.where(np.isnan(score), np.where(rising[content], 2, 1), 0)
    return pl.DataFrame(
        {
            "person": people.gather(row),
            "place": place + 1,
            "content_id": names.gather(content),
            "reason": pl.Series(["similar", "popular", "rising"]).gather(reason),
            "because": names.gather(np.maximum(because, 0)),
            "score": pl.Series(score).round(6).fill_nan(None),
        }
    ).with_columns(because=pl.when(pl.Series(because != NOBODY)).then("because")).select(
        pl.col(name).cast(kind) for name, kind in ROWS.items()
    )  # fmt: skip


def _similar_rows(near: Similar, names: pl.Series, places: int) -> pl.DataFrame:
    content, place = np.nonzero(near.value[:, :places] > 0)
    return pl.DataFrame(
        {
            "content_id": names.gather(content),
            "place": place + 1,
            "similar_content_id": names.gather(near.content[content, place]),
            "similarity": pl.Series(near.value[content, place]).round(6),
            "persons": near.persons[content, place],
        }
    ).select(pl.col(name).cast(kind) for name, kind in SIMILAR_ROWS.items())
