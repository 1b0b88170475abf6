"""One-to-one assignment of greatest total gain, and how sure each of its links is.

Not linking is the alternative to every link and has gain 0, so only links of positive gain are ever
chosen: it is the virtual source and sink of births and deaths (Jaqaman et al., Nat. Methods 5, 695, 2008).
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import min_weight_full_bipartite_matching

Index = NDArray[np.intp]
Gain = NDArray[np.float64]

ROUNDS = 8
"""Most objects that change partners in an alternative to a link."""


def assign(rows: Index, columns: Index, gains: Gain, shape: tuple[int, int]) -> Index:
    """Choose candidates so that each row and each column is used at most once. Exact.

    Parameters
    ----------
    rows, columns, gains
        (N,) candidate links; no pair twice.
    shape
        Number of rows and columns.

    Returns
    -------
    numpy.ndarray
        Indices of the chosen candidates, ascending.
    """
    (useful,) = np.nonzero(gains > 0)
    if len(useful) == 0:
        return useful
    # Each row may stay alone, in a column of its own. The solver takes 0 for a missing edge, so all gains are
    # raised by the same amount: every row counts once, and the best assignment stays the best.
    lift = float(gains[useful].max())
    own = np.arange(shape[0])
    values = np.concatenate([gains[useful] + lift, np.full(shape[0], lift)])
    where = np.concatenate([rows[useful], own]), np.concatenate([columns[useful], shape[1] + own])
    edges = coo_array((values, where), shape=(shape[0], shape[1] + shape[0])).tocsr()
    matched, partners = min_weight_full_bipartite_matching(edges, maximize=True)
    partner = np.full(shape[0], -1, np.intp)
    partner[matched] = partners
    return useful[partner[rows[useful]] == columns[useful]]


def margins(rows: Index, columns: Index, gains: Gain, chosen: Index, shape: tuple[int, int]) -> Gain:
    """What the best assignment without each chosen link would lose in total gain.

    Parameters
    ----------
    rows, columns, gains, shape
        As in `assign`.
    chosen
        The best assignment.

    Returns
    -------
    numpy.ndarray
        (len(chosen),) at least 0. Exact as long as no more than `ROUNDS` objects change partners.
    """
    by_row, by_column = np.lexsort([columns, rows]), np.lexsort([rows, columns])
    row_starts = np.searchsorted(rows[by_row], np.arange(shape[0] + 1))
    column_starts = np.searchsorted(columns[by_column], np.arange(shape[1] + 1))
    link_of_row, link_of_column = np.full(shape[0], -1, np.intp), np.full(shape[1], -1, np.intp)
    link_of_row[rows[chosen]], link_of_column[columns[chosen]] = chosen, chosen
    return _margins(
        chosen,
        rows,
        columns,
        gains,
        by_row,
        row_starts,
        by_column,
        column_starts,
        link_of_row,
        link_of_column,
    )


@njit(nogil=True, cache=True)
def _margins(
    chosen: Index,
    rows: Index,
    columns: Index,
    gains: Gain,
    by_row: Index,
    row_starts: Index,
    by_column: Index,
    column_starts: Index,
    link_of_row: Index,
    link_of_column: Index,
) -> Gain:
    """Longest alternating paths from both ends of each link, by relaxation (Bellman & Ford).

    Without its link a row takes a free column, or another's, or nothing; its column likewise takes a row.
    A path that leads from the row to the column is a cycle and needs nothing else.
    """
    found = np.empty(len(chosen))
    row_best, column_best = np.full(len(link_of_row), -np.inf), np.full(len(link_of_column), -np.inf)
    for n in range(len(chosen)):
        link = chosen[n]
        home = columns[link]
        row_end, cycle = 0.0, -np.inf
        front = [rows[link]]
        row_best[rows[link]] = 0.0
        touched = [rows[link]]
        for _ in range(ROUNDS):
            following = [rows[link]][:0]
            for u in front:
                for k in by_row[row_starts[u] : row_starts[u + 1]]:
                    if k == link_of_row[u]:
                        continue
                    value = row_best[u] + gains[k]
                    if columns[k] == home:
                        cycle = max(cycle, value)
                        continue
                    owned = link_of_column[columns[k]]
                    if owned < 0:
                        row_end = max(row_end, value)
                        continue
                    value -= gains[owned]
                    if value > row_best[rows[owned]]:
                        row_best[rows[owned]] = value
                        row_end = max(row_end, value)
                        following.append(rows[owned])
                        touched.append(rows[owned])
            front = following
        for u in touched:
            row_best[u] = -np.inf
        column_end = 0.0
        front = [home]
        column_best[home] = 0.0
        touched = [home]
        for _ in range(ROUNDS):
            following = [home][:0]
            for c in front:
                for k in by_column[column_starts[c] : column_starts[c + 1]]:
                    if k == link_of_column[c] or rows[k] == rows[link]:
                        continue
                    value = column_best[c] + gains[k]
                    owned = link_of_row[rows[k]]
                    if owned < 0:
                        column_end = max(column_end, value)
                        continue
                    value -= gains[owned]
                    if value > column_best[columns[owned]]:
                        column_best[columns[owned]] = value
                        column_end = max(column_end, value)
                        following.append(columns[owned])
                        touched.append(columns[owned])
            front = following
        for c in touched:
            column_best[c] = -np.inf
        found[n] = max(gains[link] - max(cycle, row_end + column_end), 0.0)
    return found
