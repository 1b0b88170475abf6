"""One-to-one assignment of greatest total gain (Jaqaman et al., Nat. Methods 5, 695, 2008).

Not linking is the alternative to every link and has gain 0, so only links of positive gain are ever
chosen, and the births and deaths of the usual cost matrix need no rows of their own.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

Index = NDArray[np.intp]
Gain = NDArray[np.float64]


def assign(rows: Index, columns: Index, gains: Gain, shape: tuple[int, int]) -> Index:
    """Choose candidates so that each row and each column is used at most once.

    Parameters
    ----------
    rows, columns, gains
        (N,) candidate links; no pair twice.
    shape
        Number of rows and columns.

    Returns
    -------
    numpy.ndarray
        Indices of the chosen candidates, ascending. Exact; solved for each connected group of
        candidates by itself.
    """
    useful = np.flatnonzero(gains > 0)
    if len(useful) == 0:
        return useful
    n, m = shape
    links = coo_array((np.ones(len(useful)), (rows[useful], n + columns[useful])), shape=(n + m, n + m))
    _, group = connected_components(links, directed=False)
    order = useful[np.argsort(group[rows[useful]], kind="stable")]
    limits = np.flatnonzero(np.diff(group[rows[order]])) + 1
    chosen = [_solve(part, rows, columns, gains) for part in np.split(order, limits)]
    return np.sort(np.concatenate(chosen))


def _solve(part: Index, rows: Index, columns: Index, gains: Gain) -> Index:
    if len(part) == 1:
        return part
    names_r, r = np.unique(rows[part], return_inverse=True)
    names_c, c = np.unique(columns[part], return_inverse=True)
    matrix = np.zeros((len(names_r), len(names_c)))
    matrix[r, c] = gains[part]
    candidate = np.full(matrix.shape, -1, np.intp)
    candidate[r, c] = part
    best = candidate[linear_sum_assignment(matrix, maximize=True)]
    return np.asarray(best[best >= 0])


def confidence(rows: Index, columns: Index, gains: Gain) -> Gain:
    """Probability of each candidate against everything that excludes it.

    Rows and columns are numbered from 0 without gaps. The alternatives of a link are the other
    candidates of its row and of its column, and no link; each counts with the exponential of its
    gain. This is the marginal of the exact posterior with the alternatives taken one at a time.
    """
    if len(gains) == 0:
        return gains
    in_row = _grouped_logsumexp(rows, gains)[rows]
    in_column = _grouped_logsumexp(columns, gains)[columns]
    # The link itself is in both sums; one of the two is taken out again.
    total = np.logaddexp(0, np.logaddexp(in_row, in_column) + np.log1p(-_share(gains, in_row, in_column)))
    return np.asarray(np.exp(gains - total))


def _share(gains: Gain, in_row: Gain, in_column: Gain) -> Gain:
    return np.asarray(np.minimum(np.exp(gains - np.logaddexp(in_row, in_column)), 0.5))


def _grouped_logsumexp(names: Index, values: Gain) -> Gain:
    """For each name from 0 on, all of which occur, the logarithm of its values' summed exponentials."""
    order = np.argsort(names, kind="stable")
    starts = np.flatnonzero(np.diff(names[order], prepend=-1))
    return np.asarray(np.logaddexp.reduceat(values[order], starts))
