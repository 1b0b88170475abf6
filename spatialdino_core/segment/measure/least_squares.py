"""Linear least squares in boxes of voxels, for models whose terms are products of one function per axis.

Sums over a box are then taken axis by axis, and products of two terms in a whole box are products of sums
along its axes: a fit costs little more than reading the box once. What terms a model has is the business of
:mod:`.localise` and :mod:`.pairs`.

Throughout, ``profiles`` (n, 3, functions, longest edge) are functions along z, y and x in n boxes, zero
beyond the box and the frame, and ``terms`` (terms, 3) names a function for each axis.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from spatialdino_core.segment.measure.boxes import Boxes

RIDGE = 1e-9
"""Added to the diagonal, relative and absolute: boxes that are mostly invalid stay solvable."""


class Equations(NamedTuple):
    """Products of all terms with one another (n, terms, terms), and with an image or residual (n, terms)."""

    products: np.ndarray
    right: np.ndarray


def normal_equations(boxes: Boxes, profiles: np.ndarray, terms: np.ndarray) -> Equations:
    """Those of the values in boxes."""
    along = profiles @ profiles.swapaxes(2, 3)  # (n, 3, functions, functions)
    first, second = terms[:, None], terms[None]
    products = np.ones((len(profiles), len(terms), len(terms)))
    for a in range(3):
        products *= along[:, a][:, first[..., a], second[..., a]]
    some = boxes.masked
    if len(some):
        products[some] = weighted_products(boxes.usable[some].astype(np.float64), profiles[some], terms)
    return Equations(products, project(boxes.values, profiles, terms))


def weighted_products(weights: np.ndarray, profiles: np.ndarray, terms: np.ndarray) -> np.ndarray:
    """Products of all terms with one another, (n, terms, terms), where voxels have weights (n, z, y, x)."""
    functions = profiles.shape[2]
    f, g = np.tril_indices(functions)
    number = np.zeros((functions, functions), np.intp)  # of the product of two functions
    number[f, g] = number[g, f] = np.arange(len(f))
    t, s = np.tril_indices(len(terms))
    both = project(weights, profiles[:, :, f] * profiles[:, :, g], number[terms[t], terms[s]])
    found = np.empty((len(weights), len(terms), len(terms)))
    found[:, t, s] = found[:, s, t] = both
    return found


def project(values: np.ndarray, profiles: np.ndarray, terms: np.ndarray) -> np.ndarray:
    """Sums over boxes (n, z, y, x) of their values times each term, (n, terms)."""
    n, depth, height, width = values.shape
    z, y, x = profiles[:, 0, :, :depth], profiles[:, 1, :, :height], profiles[:, 2, :, :width]
    planes = (z @ values.reshape(n, depth, height * width)).reshape(n, profiles.shape[2], height, width)
    lines = x[:, None] @ planes.swapaxes(2, 3)  # (n, functions of z, functions of x, y)
    return np.asarray(np.einsum("nty,nty->nt", lines[:, terms[:, 0], terms[:, 2]], y[:, terms[:, 1]]))


def model(linear: np.ndarray, profiles: np.ndarray, terms: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Sum of the first terms, with coefficients (n, some terms), in boxes of ``shape`` (n, z, y, x)."""
    n, depth, height, width = shape
    z, y, x = (profiles[:, a][:, terms[: linear.shape[1], a]] for a in range(3))  # (n, some terms, edge)
    left = (linear[:, :, None, None] * z[:, :, :depth, None] * y[:, :, None, :height]).reshape(
        n, -1, depth * height
    )
    return np.asarray((left.swapaxes(1, 2) @ x[:, :, :width]).reshape(shape))


def solve(matrix: np.ndarray, right: np.ndarray, *, damping: float = 0.0) -> np.ndarray:
    """Solutions (n, terms) of symmetric equations, their diagonal damped (Marquardt 1963)."""
    return np.asarray(np.linalg.solve(regularised(matrix, damping), right[:, :, None])[:, :, 0])


def regularised(matrix: np.ndarray, damping: float = 0.0) -> np.ndarray:
    """With a larger diagonal."""
    found, diagonal = matrix.copy(), np.arange(matrix.shape[1])
    found[:, diagonal, diagonal] = found[:, diagonal, diagonal] * ((1 + damping) * (1 + RIDGE)) + RIDGE
    return found


def linearised(normal: Equations, linear: np.ndarray, scale: np.ndarray) -> Equations:
    """Gauss–Newton's equations, of the residual, where linear terms are at their best.

    Parameters
    ----------
    normal
        From :func:`normal_equations`.
    linear
        Shape (n, some terms): coefficients of the first terms.
    scale
        Shape (n, terms): factors of the terms that are derivatives, 1 of others.
    """
    explained = normal.products[:, :, : linear.shape[1]] @ linear[:, :, None]
    return Equations(scaled(normal.products, scale), (normal.right - explained[:, :, 0]) * scale)


def scaled(products: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Products of terms (n, terms, terms) that are multiplied by ``scale`` (n, terms)."""
    return products * scale[:, :, None] * scale[:, None]
