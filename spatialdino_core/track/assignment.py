"""One-to-one assignment of greatest total gain, and how sure each of its links is.

Not linking is the alternative to every link and has gain 0, so only links of positive gain are ever
chosen: it is the virtual source and sink of births and deaths (Jaqaman et al., Nat. Methods 5, 695, 2008).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import min_weight_full_bipartite_matching

from spatialdino_core.compiled import njit

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

    Examples
    --------
    The greatest gain first would give 3; the best total is 2 + 2.

    >>> rows, columns, gains = np.array([0, 0, 1]), np.array([0, 1, 0]), np.array([3.0, 2.0, 2.0])
    >>> assign(rows, columns, gains, (2, 2)).tolist()
    [1, 2]
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

    Examples
    --------
    Without either of the two links the best total is 3 instead of 4.

    >>> rows, columns, gains = np.array([0, 0, 1]), np.array([0, 1, 0]), np.array([3.0, 2.0, 2.0])
    >>> margins(rows, columns, gains, np.array([1, 2]), (2, 2)).tolist()
    [1.0, 1.0]
    """
    by_row, by_column = _side(rows, columns, chosen, shape[0]), _side(columns, rows, chosen, shape[1])
    return _margins(chosen, gains, by_row, by_column)


class _Side(NamedTuple):
    """The candidates from the side of the rows, or of the columns.

    ``end`` (N,) is the row of each candidate; ``order`` (N,) sorts candidates by it: those of row u are
    ``order[starts[u]:starts[u + 1]]``; ``link`` (rows,) is the chosen candidate of each row, or −1.
    """

    end: Index
    order: Index
    starts: Index
    link: Index


def _side(ends: Index, others: Index, chosen: Index, count: int) -> _Side:
    order = np.lexsort([others, ends])
    link = np.full(count, -1, np.intp)
    link[ends[chosen]] = chosen
    return _Side(ends, order, np.searchsorted(ends[order], np.arange(count + 1)), link)


@njit(nogil=True, cache=True)
def _margins(chosen: Index, gains: Gain, rows: _Side, columns: _Side) -> Gain:
    """Longest alternating paths from both ends of each link.

    Without its link a row takes a free column, or another's, or nothing; its column likewise takes a row.
    A path that leads from the row to the column is a cycle and needs nothing else.
    """
    found = np.empty(len(chosen))
    row_best, column_best = np.full(len(rows.link), -np.inf), np.full(len(columns.link), -np.inf)
    for n in range(len(chosen)):
        link = chosen[n]
        row_path, cycle = _longest_path(link, gains, rows, columns, row_best)
        column_path, _ = _longest_path(link, gains, columns, rows, column_best)
        found[n] = max(gains[link] - max(cycle, row_path + column_path), 0.0)
    return found


@njit(nogil=True, cache=True)
def _longest_path(link: int, gains: Gain, near: _Side, far: _Side, best: Gain) -> tuple[float, float]:
    """Greatest gain of alternating paths from the near end of a link, by relaxation (Bellman & Ford).

    Parameters
    ----------
    best
        (near,) scratch memory: −∞ everywhere, before and after.

    Returns
    -------
    path, cycle
        Of paths that end anywhere but at the link's far end, at least 0; of those that end there.
    """
    start, home = near.end[link], far.end[link]
    path, cycle = 0.0, -np.inf
    front, touched = [start], [start]
    best[start] = 0.0
    for _ in range(ROUNDS):
        following = [start][:0]
        for u in front:
            for k in near.order[near.starts[u] : near.starts[u + 1]]:
                if k == near.link[u]:
                    continue
                value = best[u] + gains[k]
                if far.end[k] == home:
                    cycle = max(cycle, value)
                    continue
                owned = far.link[far.end[k]]
                if owned < 0:
                    path = max(path, value)
                    continue
                value -= gains[owned]
                owner = near.end[owned]
                if value > best[owner]:
                    best[owner] = value
                    path = max(path, value)
                    following.append(owner)
                    touched.append(owner)
        front = following
    for u in touched:
        best[u] = -np.inf
    return path, cycle
