"""A look at views that are never learned from: the same ones at every step, so that steps compare.

What the teacher makes of them at the three places where collapse shows (class tokens, patch tokens, outputs
of the heads), how long tokens are after each block, and what a linear probe reads from its patch tokens.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spatialdino_core.encoder.vit import VisionTransformer3D
from spatialdino_core.errors import BadInputError
from spatialdino_core.pretrain.figures import norm_figures, token_figures
from spatialdino_core.pretrain.probe import intensity_features, linear_probe, raw_voxels

MAX_PATCHES = 4096
SHOWN_VIEWS = 6
VIEWS_AT_ONCE = 8


class Examinee(Protocol):
    """A network that can be examined: an encoder below two projection heads."""

    @property
    def encoder(self) -> VisionTransformer3D:
        """The encoder."""

    @property
    def class_head(self) -> Callable[[Tensor], Tensor]:
        """From (n, D) class tokens to (n, K) logits."""

    @property
    def patch_head(self) -> Callable[[Tensor], Tensor]:
        """From (n, D) patch tokens to (n, K) logits."""


@dataclass(frozen=True)
class Examination:
    """What one look has found.

    Attributes
    ----------
    figures
        `token_figures` of ``class`` and ``patch`` tokens and of ``class_output`` and ``patch_output``, the
        logits; `norm_figures` of ``block_0`` and on; ``probe_auroc`` and ``probe_average_precision``, NaN
        where the views have too little foreground.
    views
        (s, C, Z, Y, X) on the CPU, six of the views, evenly spread.
    patch_tokens
        (s, N, D) float32 on the CPU, their patch tokens.
    grid
        (gz, gy, gx), N = gz * gy * gx.
    """

    figures: dict[str, float]
    views: Tensor
    patch_tokens: Tensor
    grid: tuple[int, int, int]


@torch.no_grad()
def examine(network: Examinee, views: Tensor, labels: NDArray[np.bool_]) -> Examination:
    """Look at held-out views with a network.

    Of many patches, the same 4096 or so are looked at each time, as many of each view.

    Parameters
    ----------
    network
        The teacher. It may be on any device; views are brought to it a few at a time.
    views
        (n, C, Z, Y, X), n >= 2, not augmented.
    labels
        (n, N) bool, patches that hold something: ``foreground_labels`` or truth.
    """
    device = next(network.encoder.parameters()).device
    blocks = len(network.encoder.blocks)
    seen = _seen_patches(*labels.shape)
    classes: list[Tensor] = []
    patches: list[Tensor] = []
    norms: list[list[Tensor]] = [[] for _ in range(blocks)]
    for few in views.split(VIEWS_AT_ONCE):
        output = network.encoder(few.to(device), depths=range(blocks))
        classes.append(output.class_token.float())
        patches.append(output.patch_tokens[:, seen.to(device)].float())
        for kept, tokens in zip(norms, output.intermediate, strict=True):
            kept.append(tokens[:, network.encoder.first_patch :].float().norm(dim=-1))
    class_tokens, patch_tokens = torch.cat(classes), torch.cat(patches)
    flat = patch_tokens.flatten(0, 1)
    figures = {
        **token_figures("class", class_tokens),
        **token_figures("patch", flat),
        **token_figures("class_output", network.class_head(class_tokens)),
        **token_figures("patch_output", network.patch_head(flat)),
    }
    for block, lengths in enumerate(norms):
        figures |= norm_figures(f"block_{block}", torch.cat(lengths))
    figures |= _probe_figures("probe", patch_tokens.cpu().numpy(), labels[:, seen.numpy()])
    shown = views[torch.linspace(0, len(views) - 1, min(SHOWN_VIEWS, len(views))).long()]
    output = network.encoder(shown.to(device))
    return Examination(figures, shown.float().cpu(), output.patch_tokens.float().cpu(), output.grid)


def baseline_figures(views: Tensor, labels: NDArray[np.bool_], patch_voxels: int) -> dict[str, float]:
    """What the probe reads from raw intensity; once per run, as nothing of it is learned.

    Returns
    -------
    dict
        ``intensity_auroc``, ``intensity_average_precision`` (mean, standard deviation, maximum of a patch),
        ``voxels_auroc`` and ``voxels_average_precision`` (all voxels of a patch).
    """
    seen = _seen_patches(*labels.shape).numpy()
    few = labels[:, seen]
    intensity, voxels = intensity_features(views, patch_voxels), raw_voxels(views, patch_voxels)
    return {
        **_probe_figures("intensity", intensity[:, seen], few),
        **_probe_figures("voxels", voxels[:, seen], few),
    }


def _probe_figures(name: str, features: NDArray[np.float32], labels: NDArray[np.bool_]) -> dict[str, float]:
    """Probe of (n, p, D) features with (n, p) labels; a view is a group."""
    views, patches = labels.shape
    groups = np.repeat(np.arange(views), patches)
    try:
        score = linear_probe(features.reshape(len(groups), -1), labels.ravel(), groups)
    except BadInputError:  # too little foreground is no reason to stop a training
        return {f"{name}_auroc": math.nan, f"{name}_average_precision": math.nan}
    return {f"{name}_auroc": score.auroc, f"{name}_average_precision": score.average_precision}


def _seen_patches(views: int, patches: int) -> Tensor:
    """Indices of the patches of each view that are looked at, ascending."""
    some = min(patches, -(-MAX_PATCHES // views))
    return torch.randperm(patches, generator=torch.Generator().manual_seed(0))[:some].sort().values
