"""Linear least squares in one box of voxels, for models whose terms are products of one function per axis.

Sums over a whole box are then products of sums along its axes, which is most of what fits of particles cost.
Compiled, for the fits in :mod:`.localise` and :mod:`.pairs`; which terms a model has is their business.

Throughout, ``profiles`` (3, functions, longest edge) are functions along z, y and x, a term (3,) names one of
each, and a box is (z, y, x), float64, zero where it is unusable.
"""

from __future__ import annotations

import numpy as np

from spatialdino_core.compiled import njit

FAST = {"contract", "reassoc", "nsz", "arcp"}
RIDGE = 1e-9
"""Added to the diagonal, relative and absolute: boxes that are mostly invalid stay solvable."""
LEAST_PIVOT = 1e-15
"""Relative to the diagonal: what rounding leaves of nothing."""


@njit(nogil=True, cache=True, fastmath=FAST)
def normal_equations(values, usable, whole, profiles, terms, products, right):
    """Products (terms, terms) of all terms with each other, and with the values (terms,)."""
    if whole:
        _products(values.shape, profiles, terms, products)
    else:
        weights = np.empty(values.shape)
        for z in range(values.shape[0]):
            for y in range(values.shape[1]):
                for x in range(values.shape[2]):
                    weights[z, y, x] = 1.0 if usable[z, y, x] else 0.0
        weighted_products(weights, profiles, terms, products)
    _projections(values, profiles, terms, right)


@njit(nogil=True, cache=True, fastmath=FAST)
def _products(shape, profiles, terms, found):
    functions = profiles.shape[1]
    along = np.empty((3, functions, functions))
    for a in range(3):
        for f in range(functions):
            for g in range(f + 1):
                total = 0.0
                for k in range(shape[a]):
                    total += profiles[a, f, k] * profiles[a, g, k]
                along[a, f, g] = along[a, g, f] = total
    for t in range(len(terms)):
        for s in range(t + 1):
            product = 1.0
            for a in range(3):
                product *= along[a, terms[t, a], terms[s, a]]
            found[t, s] = found[s, t] = product


@njit(nogil=True, cache=True, fastmath=FAST)
def weighted_products(weights, profiles, terms, found):
    """Products (terms, terms) with a weight (z, y, x) for each voxel."""
    depth, height, width = weights.shape
    rows = np.empty((len(terms), width))
    found[: len(terms), : len(terms)] = 0.0
    for z in range(depth):
        for y in range(height):
            for t in range(len(terms)):
                factor = profiles[0, terms[t, 0], z] * profiles[1, terms[t, 1], y]
                for x in range(width):
                    rows[t, x] = factor * profiles[2, terms[t, 2], x]
            for t in range(len(terms)):
                for s in range(t + 1):
                    total = 0.0
                    for x in range(width):
                        total += weights[z, y, x] * rows[t, x] * rows[s, x]
                    found[t, s] += total
    for t in range(len(terms)):
        for s in range(t):
            found[s, t] = found[t, s]


@njit(nogil=True, cache=True, fastmath=FAST)
def _projections(values, profiles, terms, found):
    """First along z, which all terms with the same function share."""
    depth, height, width = values.shape
    plane = height * width
    flat = values.reshape(depth, plane)
    summed = np.zeros((profiles.shape[1], plane))
    for z in range(depth):
        for f in range(profiles.shape[1]):
            weight = profiles[0, f, z]
            for v in range(plane):
                summed[f, v] += weight * flat[z, v]
    for t in range(len(terms)):
        total = 0.0
        for y in range(height):
            line = 0.0
            for x in range(width):
                line += summed[terms[t, 0], y * width + x] * profiles[2, terms[t, 2], x]
            total += line * profiles[1, terms[t, 1], y]
        found[t] = total


@njit(nogil=True, cache=True, fastmath=FAST)
def residual_squares(values, usable, profiles, terms, linear, count, found):
    """Squares (z, y, x) of what ``count`` terms with coefficients ``linear`` leave; returns their sum."""
    depth, height, width = values.shape
    total = 0.0
    row = np.empty(width)
    for z in range(depth):
        for y in range(height):
            for x in range(width):
                row[x] = values[z, y, x]
            for t in range(count):
                factor = linear[t] * profiles[0, terms[t, 0], z] * profiles[1, terms[t, 1], y]
                for x in range(width):
                    row[x] -= factor * profiles[2, terms[t, 2], x]
            for x in range(width):
                found[z, y, x] = row[x] * row[x] if usable[z, y, x] else 0.0
                total += found[z, y, x]
    return total


@njit(nogil=True, cache=True)
def linearised(products, right, linear, count, scale, normal, remainder):
    """Gauss–Newton's equations, of all terms times ``scale``, where ``count`` linear ones are at their best.

    ``normal`` (terms, terms) and ``remainder`` (terms,), the terms' products with the residual, are filled.
    """
    for t in range(len(scale)):
        left = right[t]
        for s in range(count):
            left -= products[t, s] * linear[s]
        remainder[t] = left * scale[t]
        for s in range(len(scale)):
            normal[t, s] = products[t, s] * scale[t] * scale[s]


@njit(nogil=True, cache=True)
def solve(matrix, size, damping, right, factor, found):
    """Solve for ``found`` (size,) with the leading ``size`` rows; ``factor`` is that of :func:`factorise`."""
    factorise(matrix, size, damping, factor)
    substitute(factor, size, right, found)


@njit(nogil=True, cache=True)
def factorise(matrix, size, damping, factor):
    """Cholesky's lower triangle of a symmetric matrix, its diagonal damped (Marquardt) and regularised."""
    for i in range(size):
        for j in range(i + 1):
            total = matrix[i, j]
            if i == j:
                total = total * (1 + damping) * (1 + RIDGE) + RIDGE
            least = LEAST_PIVOT * total
            for k in range(j):
                total -= factor[i, k] * factor[j, k]
            factor[i, j] = np.sqrt(max(total, least)) if i == j else total / factor[j, j]


@njit(nogil=True, cache=True)
def substitute(factor, size, right, found):
    """Solve with a factor of :func:`factorise`."""
    for i in range(size):
        total = right[i]
        for k in range(i):
            total -= factor[i, k] * found[k]
        found[i] = total / factor[i, i]
    for i in range(size - 1, -1, -1):
        total = found[i]
        for k in range(i + 1, size):
            total -= factor[k, i] * found[k]
        found[i] = total / factor[i, i]


@njit(nogil=True, cache=True)
def sandwich_variance(factor, meat, size, first, found):
    """Variances of the parameters from ``first`` on: the diagonal of N⁻¹ M N⁻¹ (White 1980)."""
    unit, column = np.empty(size), np.empty(size)
    for p in range(first, size):
        for k in range(size):
            unit[k] = 1.0 if k == p else 0.0
        substitute(factor, size, unit, column)
        total = 0.0
        for i in range(size):
            for j in range(size):
                total += column[i] * meat[i, j] * column[j]
        found[p - first] = total
