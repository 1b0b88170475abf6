"""Linear probe: what a logistic regression reads from frozen features, beside what raw intensity gives away.

Not part of training: nothing here changes the encoder. What counts as foreground where there is no truth
is in ``foreground.py``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.model_selection import GroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from spatialdino_core.errors import BadInputError

FOLDS = 4
FEWEST = 20  # a handful of foreground samples ranks by chance
LOGIT_VARIANCE = 4.0
ITERATIONS = 300


@dataclass(frozen=True)
class ProbeScore:
    """How well a probe tells foreground from background, in groups that it has not seen.

    Attributes
    ----------
    auroc
        Area under the receiver operating characteristic; 0.5 is chance.
    average_precision
        Area under the precision-recall curve; the share of foreground is chance.
    """

    auroc: float
    average_precision: float


def linear_probe(features: ArrayLike, labels: ArrayLike, groups: ArrayLike) -> ProbeScore:
    """Logistic regression on standardised features, fitted on some groups and scored on the others.

    Each group is scored once, by a regression that was fitted without it (group k-fold, k = 4 or the
    number of groups). Scores are means over the folds whose groups have samples of both kinds: outputs of
    different regressions are never ranked against each other. Deterministic.

    The penalty is that of a normal prior on the weights, whose variance is 4 over the number of features, so
    that logits have a prior standard deviation of 2 however many features there are: fair to 3 intensities
    and to 512 voxels, with nothing to tune.

    Parameters
    ----------
    features
        (n, D), finite.
    labels
        (n,) bool, True for foreground.
    groups
        (n,), which crop or movie a sample is from; samples of one group are never split.

    Raises
    ------
    BadInputError
        If there are fewer than two groups, fewer than 20 samples of a kind, or no fold can be fitted and
        scored because samples of one kind are missing.
    """
    x, y, group = np.asarray(features, np.float64), np.asarray(labels, bool), np.asarray(groups)
    count = len(np.unique(group))
    if count < 2:
        raise _too_little(f"{count} group")
    if min(y.sum(), (~y).sum()) < FEWEST:
        raise _too_little(f"{int(y.sum())} foreground samples of {len(y)}")
    scores = []
    for fit, test in GroupKFold(min(FOLDS, count)).split(x, y, group):
        if _has_both(y[fit]) and _has_both(y[test]):
            regression = LogisticRegression(C=LOGIT_VARIANCE / x.shape[1], max_iter=ITERATIONS)
            ranks = make_pipeline(StandardScaler(), regression).fit(x[fit], y[fit]).decision_function(x[test])
            scores.append((roc_auc_score(y[test], ranks), average_precision_score(y[test], ranks)))
    if not scores:
        raise _too_little(f"{int(y.sum())} foreground samples of {len(y)}")
    auroc, precision = np.mean(scores, axis=0)
    return ProbeScore(float(auroc), float(precision))


def intensity_features(views: Tensor, patch_voxels: int) -> NDArray[np.float32]:
    """Mean, standard deviation and maximum of each patch: what foreground is worth without any learning.

    Parameters
    ----------
    views
        (n, C, Z, Y, X), sides in whole patches.
    patch_voxels
        Side of a patch.

    Returns
    -------
    numpy.ndarray
        (n, N, 3 C) in the raster order of patch tokens.
    """
    patches = _patches(views, patch_voxels)
    return np.concatenate([patches.mean(-1), patches.std(-1), patches.max(-1)], axis=-1)


def raw_voxels(views: Tensor, patch_voxels: int) -> NDArray[np.float32]:
    """All voxels of each patch, (n, N, C * patch_voxels**3); see `intensity_features`."""
    patches = _patches(views, patch_voxels)
    return patches.reshape(*patches.shape[:2], -1)


def _patches(views: Tensor, side: int) -> NDArray[np.float32]:
    """(n, C, Z, Y, X) to (n, N, C, side**3)."""
    cut = views.unfold(2, side, side).unfold(3, side, side).unfold(4, side, side)
    patches = cut.flatten(5).permute(0, 2, 3, 4, 1, 5).flatten(1, 3)
    return patches.float().cpu().numpy()


def _has_both(labels: NDArray[np.bool_]) -> bool:
    return bool(labels.any() and not labels.all())


def _too_little(found: str) -> BadInputError:
    return BadInputError(
        "linear probe",
        found=found,
        expected=f"two groups or more, and {FEWEST} samples of foreground and background in several of them",
        remedy="Probe more crops, or crops of other places.",
    )
