"""How well instance labels agree with true ones, whatever the numbering."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spatialdino_core.errors import BadInputError
from spatialdino_core.score import ratios
from spatialdino_core.score.matching import best_pairs

LabelPair = tuple[NDArray[np.integer], NDArray[np.integer]]


@dataclass(frozen=True)
class SegmentationScore:
    """Agreement of instances (pooled over frames) and of the foreground.

    Attributes
    ----------
    f1
        F1 of instances matched one to one with an intersection over union above the threshold.
    mean_iou
        Mean over true instances of the intersection over union with their partner, 0 without one.
    dice
        Dice coefficient of the foreground.
    """

    found: int
    expected: int
    matches: int
    f1: float
    mean_iou: float
    dice: float


@dataclass(frozen=True)
class Overlaps:
    """Pairs (k,) of instances that share voxels.

    Attributes
    ----------
    found_ids, true_ids
        Identifiers of all instances, ascending, without background.
    found, truth
        Their numbers in these lists, for each pair.
    iou
        Intersection over union.
    covered
        Share of the true instance that the found one covers.
    """

    found_ids: NDArray[np.integer]
    true_ids: NDArray[np.integer]
    found: NDArray[np.int64]
    truth: NDArray[np.int64]
    iou: NDArray[np.float64]
    covered: NDArray[np.float64]


def score_labels(frames: Iterable[LabelPair], iou_threshold: float = 0.5) -> SegmentationScore:
    """Score instance labels of one or more frames.

    Instances are paired one to one so that the sum of their intersections over unions (IoU) is largest
    among pairs above the threshold for ``f1``, and among all that overlap for ``mean_iou``.

    Parameters
    ----------
    frames
        Pairs of found and true labels of equal shape (..., z, y, x), 0 for background; consumed one by one.
    iou_threshold
        A match needs an IoU above this, in [0, 1).

    Raises
    ------
    BadInputError
        When found and true labels differ in shape.
    """
    found = expected = matches = both = found_voxels = true_voxels = 0
    total_iou = 0.0
    for found_labels, true_labels in frames:
        if found_labels.shape != true_labels.shape:
            raise BadInputError(
                "labels",
                found=f"shape {found_labels.shape}",
                expected=f"the shape of the truth, {true_labels.shape}",
                remedy="Compare labels on the same grid.",
            )
        pairs = overlaps(found_labels, true_labels)
        shape = (len(pairs.found_ids), len(pairs.true_ids))
        found, expected = found + shape[0], expected + shape[1]
        passing = np.where(pairs.iou > iou_threshold, pairs.iou, 0.0)
        matches += len(best_pairs(pairs.found, pairs.truth, passing, shape))
        total_iou += float(pairs.iou[best_pairs(pairs.found, pairs.truth, pairs.iou, shape)].sum())
        in_found, in_truth = found_labels > 0, true_labels > 0
        both += int((in_found & in_truth).sum())
        found_voxels += int(in_found.sum())
        true_voxels += int(in_truth.sum())
    return SegmentationScore(
        found=found,
        expected=expected,
        matches=matches,
        f1=ratios.f1(matches, found, expected),
        mean_iou=ratios.recall(total_iou, found, expected),
        dice=ratios.f1(both, found_voxels, true_voxels),
    )


def overlaps(found: NDArray[np.integer], truth: NDArray[np.integer]) -> Overlaps:
    """Which instances share voxels, and how many."""
    anywhere = (found > 0) | (truth > 0)
    found_ids, i = np.unique(np.append(found[anywhere], 0), return_inverse=True)
    true_ids, j = np.unique(np.append(truth[anywhere], 0), return_inverse=True)
    i, j = i[:-1], j[:-1]  # the appended 0 made sure that identifier 0, the background, comes first
    found_sizes = np.bincount(i, minlength=len(found_ids))
    true_sizes = np.bincount(j, minlength=len(true_ids))
    pairs, shared = np.unique(np.stack([i, j], axis=1)[(i > 0) & (j > 0)], axis=0, return_counts=True)
    i, j = pairs[:, 0], pairs[:, 1]
    return Overlaps(
        found_ids=found_ids[1:],
        true_ids=true_ids[1:],
        found=i - 1,
        truth=j - 1,
        iou=shared / (found_sizes[i] + true_sizes[j] - shared),
        covered=shared / true_sizes[j],
    )
