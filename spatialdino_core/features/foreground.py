"""From features to foreground without a label: two ways, the choice between them, and what it rests on.

Pseudo-labels stand in for labels: patches of the calibration frames with the most fine detail (the
brightest small structures, as where crops are placed) count as bright, most of the others as dim. Either
way, the oriented activation (`activation.py`) or the density ratio (`density.py`), ranks patches; the one
that ranks pseudo-labels of held-out blocks better, by the area under the ROC curve, makes the movie's
foreground probability. Pseudo-labels are wrong for some patches, but as long as how often does not depend
on the features, the area is an affine function of that against the truth (Menon et al., ICML 2015): its
order is the right one. Activation must be better by more than chance, since it knows nothing of the movie
but a sign. Bimodality is measured and reported, but does not choose: on simulated movies it chose worse
than the area, because an odd corner of a movie is a mode, too.

Everything is fitted once per movie, on its calibration frames.
"""

from __future__ import annotations

from dataclasses import asdict, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic.dataclasses import dataclass
from scipy.special import expit
from sklearn.metrics import roc_auc_score

from spatialdino_core.features.activation import Activation, fit_activation, separation
from spatialdino_core.features.density import DensityRatio, calibration, fit_ratio

Way = Literal["activation", "density", "none"]

FEWEST_BRIGHT = 8  # patches per fold
DIM_PERCENTILE = 70.0
STANDARD_ERRORS = 2.0
MOST_PATCHES = 200_000


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """How well one way tells bright from dim patches, on the calibration frames.

    Attributes
    ----------
    auroc
        Area under the ROC curve against the pseudo-labels of blocks that it was not fitted to.
    separation
        Ashman's D of its values; below 2 they are not bimodal.
    """

    auroc: float
    separation: float


@dataclass(frozen=True, kw_only=True)
class ForegroundModel:
    """What makes the foreground of one movie.

    Attributes
    ----------
    patches, bright
        Patches of the calibration frames and how many of them were labelled bright.
    activation, density
        The fitted models; ``density`` is None with ``none``.
    chosen
        Which way the probability comes from. ``none``: the calibration frames are too small or too uniform to
        label enough patches; then the probability is 0 everywhere.
    evidence
        Of both ways, by name.
    """

    patches: int
    bright: int
    activation: Activation
    chosen: Way = "none"
    evidence: dict[str, Evidence] = field(default_factory=dict)
    density: DensityRatio | None = None

    def summary(self) -> dict[str, Any]:
        """What a reader wants to know, without the tables."""
        return {
            "chosen": self.chosen,
            "separation": self.evidence[self.chosen].separation if self.evidence else 0.0,
            "evidence": {name: asdict(each) for name, each in self.evidence.items()},
            "patches": self.patches,
            "bright": self.bright,
            "activation_sign": self.activation.sign,
            "prior": self.density.prior if self.density else 0.0,
        }

    def probability(self, components: NDArray[Any], activations: NDArray[Any]) -> NDArray[np.float32]:
        """Foreground probability (N,) float32 of patches.

        Parameters
        ----------
        components
            (N, K) principal components, as many as the model was fitted to.
        activations
            (N,) oriented activations.
        """
        if self.chosen == "none":
            return np.zeros(len(components), np.float32)
        if self.chosen == "activation":
            return np.asarray(expit(self.activation.log_odds(activations)), dtype=np.float32)
        assert self.density is not None
        return np.asarray(expit(self.density.log_odds(components)), dtype=np.float32)


def fit_foreground(
    components: NDArray[Any],
    sums: NDArray[Any],
    content: NDArray[Any],
    blocks: NDArray[np.integer],
    bright_percentile: float,
) -> ForegroundModel:
    """Fit both ways and choose.

    Parameters
    ----------
    components
        (N, K) principal components of the valid patches of the calibration frames.
    sums
        (N,) from `activation.summed_features`.
    content
        (N,) fine detail of each patch, in any unit.
    blocks
        (N,) which block of neighbouring patches each belongs to; even and odd ones are held out in turn.
    bright_percentile
        Patches whose content is above this percentile are labelled bright.
    """
    every = -(-len(sums) // MOST_PATCHES)
    components, sums, content, blocks = (
        np.asarray(each)[::every] for each in (components, sums, content, blocks)
    )
    components = components.astype(np.float64)
    bright, dim = pseudo_labels(content, bright_percentile)
    active = fit_activation(sums, content, dim if dim.any() else np.ones(len(dim), bool))
    folds = [blocks % 2 == 0, blocks % 2 == 1]
    if min(int((fold & label).sum()) for fold in folds for label in (bright, dim)) < FEWEST_BRIGHT:
        return ForegroundModel(patches=len(sums), bright=int(bright.sum()), activation=active)
    values = {
        "activation": _held_out_activation(sums, content, dim, folds),
        "density": _held_out_sums(components, bright, dim, folds),
    }
    evidence = {
        name: Evidence(auroc=_held_out_auroc(each, bright, dim, folds), separation=separation(each))
        for name, each in values.items()
    }
    calibrated = calibration(values["density"], bright, dim)
    density = DensityRatio(**(asdict(fit_ratio(components, bright, dim)) | calibrated))
    chosen = _better(evidence, int(bright.sum()), int(dim.sum()))
    return ForegroundModel(
        chosen=chosen,
        evidence=evidence,
        patches=len(sums),
        bright=int(bright.sum()),
        activation=active,
        density=density,
    )


def pseudo_labels(
    content: NDArray[Any], bright_percentile: float
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which patches (N,) count as bright and which as dim; none where all are alike."""
    if not len(content) or np.ptp(content) <= 0:
        return np.zeros(len(content), bool), np.zeros(len(content), bool)
    dim = content <= np.percentile(content, DIM_PERCENTILE)
    return (content >= np.percentile(content, bright_percentile)) & ~dim, dim


def _better(evidence: dict[str, Evidence], bright: int, dim: int) -> Way:
    by_chance = STANDARD_ERRORS * _auroc_error(evidence["density"].auroc, bright, dim)
    better = evidence["activation"].auroc > evidence["density"].auroc + by_chance
    return "activation" if better else "density"


def _auroc_error(area: float, positives: int, negatives: int) -> float:
    """Standard error of an area under the ROC curve (Hanley & McNeil, Radiology 143, 29, 1982)."""
    first, second = area / (2 - area), 2 * area**2 / (1 + area)
    spread = (positives - 1) * (first - area**2) + (negatives - 1) * (second - area**2)
    return float(np.sqrt((area * (1 - area) + spread) / (positives * negatives)))


def _held_out_activation(
    sums: NDArray[Any], content: NDArray[Any], dim: NDArray[np.bool_], folds: list[NDArray[np.bool_]]
) -> NDArray[np.float64]:
    """(N,) activations, oriented and scaled by the other fold."""
    found = np.empty(len(sums))
    for fold in folds:
        found[fold] = fit_activation(sums[~fold], content[~fold], dim[~fold]).of(sums[fold])
    return found


def _held_out_sums(
    components: NDArray[np.float64],
    bright: NDArray[np.bool_],
    dim: NDArray[np.bool_],
    folds: list[NDArray[np.bool_]],
) -> NDArray[np.float64]:
    """(N,) summed log ratios by densities of the other fold."""
    found = np.empty(len(components))
    for fold in folds:
        found[fold] = fit_ratio(components[~fold], bright[~fold], dim[~fold]).summed(components[fold])
    return found


def _held_out_auroc(
    values: NDArray[np.float64],
    bright: NDArray[np.bool_],
    dim: NDArray[np.bool_],
    folds: list[NDArray[np.bool_]],
) -> float:
    """Mean over folds: values of different fits are never ranked against each other."""
    labelled = bright | dim
    areas = [roc_auc_score(bright[fold & labelled], values[fold & labelled]) for fold in folds]
    return float(np.mean(areas))
