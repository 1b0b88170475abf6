"""One-to-one pairing with the largest total gain, for sparse candidates. What a gain is, callers say."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import min_weight_full_bipartite_matching
from scipy.spatial import cKDTree


def best_pairs(
    rows: NDArray[np.int64], columns: NDArray[np.int64], gains: NDArray[np.float64], shape: tuple[int, int]
) -> NDArray[np.int64]:
    """Choose pairs such that none shares a row or a column and the sum of gains is largest.

    Leaving a row or column alone gains nothing, so only candidates of positive gain are chosen. Exact
    (sparse Jonker-Volgenant).

    Parameters
    ----------
    rows, columns, gains
        Candidates (n,); a pair of row and column occurs at most once.
    shape
        Number of rows and of columns.

    Returns
    -------
    numpy.ndarray
        Indices into the candidates, ascending by row.

    Examples
    --------
    Taking the greatest gain first would leave 3 + 0; the best sum is 2 + 2.

    >>> rows, columns = np.array([0, 0, 1]), np.array([0, 1, 0])
    >>> best_pairs(rows, columns, np.array([3.0, 2.0, 2.0]), (2, 2)).tolist()
    [1, 2]
    """
    (useful,) = np.nonzero(gains > 0)
    if len(useful) == 0:
        return useful
    # Each row may also stay alone, with a column of its own and no gain. All gains are raised by the
    # same amount because the solver takes 0 for a missing edge; every row counts once, so the optimum stays.
    lift = float(gains[useful].max())
    own = np.arange(shape[0])
    edges = coo_matrix(
        (
            np.concatenate([gains[useful] + lift, np.full(shape[0], lift)]),
            (np.concatenate([rows[useful], own]), np.concatenate([columns[useful], shape[1] + own])),
        ),
        shape=(shape[0], shape[1] + shape[0]),
    ).tocsr()
    chosen_rows, chosen_columns = min_weight_full_bipartite_matching(edges, maximize=True)
    partner = np.full(shape[0], -1, np.int64)
    partner[chosen_rows] = chosen_columns
    kept = useful[partner[rows[useful]] == columns[useful]]
    return kept[np.argsort(rows[kept])]


def close_pairs(
    first_um: NDArray[np.float64], second_um: NDArray[np.float64], gate_um: float
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """All pairs of points closer than a gate.

    Parameters
    ----------
    first_um, second_um
        Points (n, 3) and (m, 3) in µm.
    gate_um
        Distance in µm.

    Returns
    -------
    first, second
        Indices (k,) of the pairs.
    distances_um
        Their distances (k,), all below the gate.
    """
    if len(first_um) == 0 or len(second_um) == 0:
        return np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0)
    near = cKDTree(first_um).sparse_distance_matrix(cKDTree(second_um), gate_um, output_type="ndarray")
    near = np.sort(near[near["v"] < gate_um], order=["i", "j"])
    return near["i"].astype(np.int64), near["j"].astype(np.int64), near["v"]
