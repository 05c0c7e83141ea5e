"""The parameters of the largest likelihood, all above 0, by the method of Broyden, Fletcher, Goldfarb and Shanno."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

STEP = 1e-5  # of the logarithm of a parameter: by which the slope is taken
MOST = 500  # iterations
FLAT = 1e-7  # of the slope, for each buyer
FARTHEST = 2.0  # step of a logarithm


class Maximum(NamedTuple):
    """What was found: the parameters, the mean log-likelihood there, and whether the slope is flat."""

    parameters: np.ndarray
    likelihood: float
    is_found: bool


def maximum(likelihood: Callable[[np.ndarray], float], start: np.ndarray) -> Maximum:
    """The maximum of a mean log-likelihood of parameters above 0, from a first guess; the same for the same input."""

    def cost(logs: np.ndarray) -> float:
        found = -likelihood(np.exp(logs))
        return found if np.isfinite(found) else np.inf

    def slope(logs: np.ndarray) -> np.ndarray:
        steps = np.eye(len(logs)) * STEP
        return np.array([(cost(logs + step) - cost(logs - step)) / (2 * STEP) for step in steps])

    at, inverse = np.log(start), np.eye(len(start))
    value, down = cost(at), slope(at)
    for _ in range(MOST):
        if np.abs(down).max() < FLAT:
            break
        move = -inverse @ down
        if move @ down >= 0:
            inverse, move = np.eye(len(start)), -down
        move *= min(1.0, FARTHEST / np.abs(move).max())
        while (reached := cost(at + move)) > value + 1e-4 * (move @ down) and np.abs(move).max() > 1e-12:
            move = move / 2
        if reached >= value:
            break
        after = slope(at + move)
        inverse = _updated(inverse, move, after - down)
        at, value, down = at + move, reached, after
    return Maximum(np.exp(at), -value, bool(np.abs(down).max() < 100 * FLAT))


def _updated(inverse: np.ndarray, move: np.ndarray, change: np.ndarray) -> np.ndarray:
    curve = move @ change
    if curve <= 1e-14:
        return inverse
    left = np.eye(len(move)) - np.outer(move, change) / curve
    return left @ inverse @ left.T + np.outer(move, move) / curve
