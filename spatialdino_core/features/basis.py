"""The one principal-component basis of a run: fitted once, kept with the weights.

Colours and components mean the same in every frame of every movie, and a movie that is added later
is projected on the same axes.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from spatialdino_core.crops.source import CropSource
from spatialdino_core.encoder.vit import VisionTransformer3D
from spatialdino_core.errors import BadInputError
from spatialdino_core.statistics import evenly_spread

FLAT = 1e-3  # intensities of a patch without data differ by no more: fill is one value, images have noise


def fit_basis(
    encoder: VisionTransformer3D, crops: CropSource, window_voxels: int, *, most: int = 512
) -> dict[str, Tensor]:
    """Principal components of patch tokens over training crops (Jolliffe, 2002).

    Parameters
    ----------
    encoder
        In evaluation.
    crops
        Normalised crops (c, z, y, x), each at least ``window_voxels`` wide.
    window_voxels
        Side of the window cut from the centre of each crop, voxels.
    most
        Crops used at most, spread evenly over all.

    Returns
    -------
    dict
        ``pca.mean`` (D,), ``pca.components`` (D, D) with one component per row, strongest first, and
        ``pca.explained_variance`` (D,), fractions of the total. The largest loading of each
        component is positive. Patches without data (of one intensity throughout) do not count.

    Raises
    ------
    BadInputError
        If no patch has data.
    """
    device = next(encoder.parameters()).device
    width = encoder.architecture.embed_dim
    count, total, squares = 0, torch.zeros(width).double(), torch.zeros(width, width).double()
    with torch.inference_mode():
        for index in evenly_spread(len(crops), most).tolist():
            window = _centre(crops[index], window_voxels)
            tokens = encoder(torch.as_tensor(window)[None].to(device)).patch_tokens[0].cpu().double()
            tokens = tokens[_has_data(window, encoder.architecture.patch_voxels)]
            count += len(tokens)
            total += tokens.sum(0)
            squares += tokens.T @ tokens
    if count == 0:
        raise BadInputError(
            "feature basis",
            found="crops without any contrast",
            expected="images",
            remedy="Mark another movie with train = yes.",
        )
    mean = total / count
    values, vectors = torch.linalg.eigh(squares / count - torch.outer(mean, mean))
    values, vectors = values.flip(0).clamp(min=0), vectors.flip(1)
    strongest = vectors.gather(0, vectors.abs().argmax(0, keepdim=True))
    components = (vectors * strongest.sign()).T
    return {
        "pca.mean": mean.float(),
        "pca.components": components.float().contiguous(),
        "pca.explained_variance": (values / values.sum().clamp(min=1e-30)).float(),
    }


def project(tokens: Tensor, basis: dict[str, Tensor], components: int) -> Tensor:
    """Principal components of tokens.

    Parameters
    ----------
    tokens
        (D, gz, gy, gx).

    Returns
    -------
    torch.Tensor
        (components, gz, gy, gx).
    """
    centred = tokens - basis["pca.mean"][:, None, None, None]
    return torch.einsum("kd,dzyx->kzyx", basis["pca.components"][:components], centred)


def _has_data(window: np.ndarray, side: int) -> np.ndarray:
    """(N,) bool, of (C, z, y, x): patches, in raster order, that are not of one intensity throughout."""
    c, *lengths = window.shape
    z, y, x = (n // side for n in lengths)
    cut = window.reshape(c, z, side, y, side, x, side)
    return np.asarray(np.ptp(cut, axis=(2, 4, 6)).max(axis=0).reshape(-1) > FLAT)


def _centre(crop: np.ndarray, side: int) -> np.ndarray:
    starts = [(n - side) // 2 for n in crop.shape[1:]]
    return crop[(slice(None), *(slice(s, s + side) for s in starts))].astype(np.float32)
