"""Sentiment beside the published figures of VADER, over the texts that it was rated with.

The texts are those of C. Hutto and E. Gilbert (ICWSM 2014), each with the mean of 20 people's ratings: the folder
`sentiment/hutto_ICWSM_2014` of the data. Two ways: each text taken for English, as VADER does, and as the product does,
where the language comes first and what is not sure to be English has no score.
"""

import time
from pathlib import Path

import numpy as np
import polars as pl

from transforms.insight.sentiment import POLAR, sentiment
from transforms.insight.valence import valence

FOLDER = Path("sentiment") / "hutto_ICWSM_2014"
# Pearson's r with the mean rating and accuracy of the sign, as measured with vaderSentiment 3.3.2: shown beside ours.
PUBLISHED = {
    "tweets": ("tweets", 0.872, 0.921),
    "reviews": ("amazonReviewSnippets", 0.590, 0.565),
    "films": ("movieReviewSnippets", 0.427, 0.556),
    "editorials": ("nytEditorialSnippets", 0.503, 0.487),
}
REPEATS = 3


def measure(folder: Path) -> dict[str, float]:
    """r, accuracy and share scored of each set, and the tweets that are scored in a second of processor time."""
    found = {}
    print(f"{'texts':<12}{'r':>8}{'accuracy':>10}{'scored':>9}   all taken for English, VADER published")
    for name, (file, r, accuracy) in PUBLISHED.items():
        texts, ratings = _read(folder / FOLDER / f"{file}_GroundTruth.txt")
        scores = sentiment(texts)["sentiment"].to_numpy()
        is_scored = ~np.isnan(scores)
        ours = _agreement(scores[is_scored], ratings[is_scored])
        everything = _agreement(valence(texts), ratings)
        shown = f"{everything[0]:.3f} {everything[1]:.3f}   {r:.3f} {accuracy:.3f}"
        print(f"{name:<12}{ours[0]:>8.3f}{ours[1]:>10.3f}{is_scored.mean():>9.3f}   {shown}")
        found |= {f"sentiment_{name}_r": ours[0], f"sentiment_{name}_accuracy": ours[1]}
        found[f"sentiment_{name}_scored"] = round(float(is_scored.mean()), 4)
    texts, _ = _read(folder / FOLDER / "tweets_GroundTruth.txt")
    found["sentiment_scores_per_second"] = _rate(lambda: valence(texts), len(texts))
    found["sentiment_texts_per_second"] = _rate(lambda: sentiment(texts), len(texts))
    print(f"a second of processor time: {found['sentiment_scores_per_second']:,.0f} tweets scored as English, "
          f"{found['sentiment_texts_per_second']:,.0f} with their language told first")  # fmt: skip
    return found


def _read(path: Path) -> tuple[pl.Series, np.ndarray]:
    lines = [line.split("\t") for line in path.read_text(encoding="utf-8").split("\n") if line]
    return pl.Series([line[2].rstrip("\r") for line in lines]), np.array([float(line[1]) for line in lines])


def _agreement(scores: np.ndarray, ratings: np.ndarray) -> tuple[float, float]:
    """Pearson's r, and how often the class (positive, neutral, negative) is that of the mean rating."""
    classes = np.where(scores >= POLAR, 1, np.where(scores <= -POLAR, -1, 0))
    r = float(np.corrcoef(scores, ratings)[0, 1])
    return round(r, 4), round(float((classes == np.sign(ratings)).mean()), 4)


def _rate(run, texts: int) -> float:
    taken = []
    for _ in range(REPEATS):
        start = time.process_time()
        run()
        taken.append(time.process_time() - start)
    return round(texts / min(taken), 0)
