"""Which planted particles were found, and what that says of the movie's own.

Heights that are measured are not those that are there: noise lifts what is just found. So the distribution of
true heights is unfolded from that of measured ones, by maximum likelihood (Richardson 1972, J. Opt. Soc. Am.
62, 55; Lucy 1974, Astron. J. 79, 745), with what was planted as the answer of the chain to each height.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree
from scipy.stats import beta

GATE = 3.0
"""Standard deviations of the point spread function within which a detection is that of a particle."""
FAR = 1e3
ROUNDS = 300

Array = NDArray[np.float64]
Index = NDArray[np.intp]


def found_of(truth_um: Array, own_um: Array, detected_um: Array, sigma_um: Array) -> Index:
    """Which detection is that of each planted particle.

    Detections are shared out among planted particles and those that the movie has by itself, so that the
    movie's own cannot be taken for what was planted beside them.

    Parameters
    ----------
    truth_um, own_um, detected_um
        Positions (n, 3), (k, 3) and (m, 3): planted, found in the movie itself, and found in the copy.
    sigma_um
        Shape (3,): standard deviations of the point spread function.

    Returns
    -------
    numpy.ndarray
        Shape (n,): row of the detection, -1 where there is none.
    """
    both = np.concatenate([truth_um, own_um]) / sigma_um
    found = np.full(len(both), -1, np.intp)
    if not len(both) or not len(detected_um):
        return found[: len(truth_um)]
    detected = cKDTree(detected_um / sigma_um)
    distance = cKDTree(both).sparse_distance_matrix(detected, GATE, output_type="coo_matrix")
    for rows, columns, cost in _islands(distance.row, distance.col, distance.data, len(both)):
        chosen_rows, chosen_columns = linear_sum_assignment(cost)
        near = cost[chosen_rows, chosen_columns] < FAR
        found[rows[chosen_rows[near]]] = columns[chosen_columns[near]]
    return found[: len(truth_um)]


def _islands(row: Index, column: Index, distance: Array, rows: int) -> Iterator[tuple[Index, Index, Array]]:
    """Groups of particles and detections that are within reach of one another, with their distances."""
    size = max(rows + int(column.max(initial=-1)) + 1, 1)
    graph = coo_matrix((np.ones(len(row)), (row, column + rows)), shape=(size, size))
    _, group = connected_components(graph, directed=False)
    for number in np.unique(group[row]):
        here = group[row] == number
        its_rows, at_row = np.unique(row[here], return_inverse=True)
        its_columns, at_column = np.unique(column[here], return_inverse=True)
        cost = np.full((len(its_rows), len(its_columns)), FAR)
        cost[at_row, at_column] = distance[here]
        yield its_rows, its_columns, cost


@dataclass(frozen=True)
class Rate:
    """A share with its interval.

    Attributes
    ----------
    value, low, high
        Estimate and 90 % interval.
    number
        Of how many.
    """

    value: float
    low: float
    high: float
    number: int


def binomial(hits: int, number: int, level: float = 0.9) -> Rate:
    """Share of hits, with the interval of Jeffreys (Brown, Cai & DasGupta 2001, Stat. Sci. 16, 101)."""
    if number == 0:
        return Rate(float("nan"), 0.0, 1.0, 0)
    tail = (1 - level) / 2
    low = 0.0 if hits == 0 else float(beta.ppf(tail, hits + 0.5, number - hits + 0.5))
    high = 1.0 if hits == number else float(beta.ppf(1 - tail, hits + 0.5, number - hits + 0.5))
    return Rate(hits / number, low, high, number)


def unfolded(measured: Array, response: Array, false: Array) -> Array:
    """How many particles of each true height there are.

    Parameters
    ----------
    measured
        Shape (bins,): detections by measured height.
    response
        Shape (heights, bins): share of the particles of a height that is found in each bin; what is missing
        to 1 is not found.
    false
        Shape (bins,): false detections that are to be expected in each bin.

    Returns
    -------
    numpy.ndarray
        Shape (heights,).
    """
    found = response.sum(axis=1)
    usable = found > 0
    number = np.where(usable, measured.sum() / max(usable.sum(), 1), 0.0)
    for _ in range(ROUNDS):
        expected = number @ response + false
        ratio = np.divide(measured, expected, out=np.zeros_like(expected), where=expected > 0)
        step = np.divide(response @ ratio, found, out=np.zeros_like(found), where=usable)
        number = number * step
    return np.asarray(number)
