"""A finished model on its device, and what it makes of a frame: read and normalised, encoded, projected."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from spatialdino_core.crops.bounds import movie_bounds
from spatialdino_core.crops.kmeans import fine_detail
from spatialdino_core.crops.normalise import normalise
from spatialdino_core.crops.parameters import NormalisationParameters
from spatialdino_core.crops.resample import resample_isotropic
from spatialdino_core.encoder.contract import entering
from spatialdino_core.encoder.header import BASIS_TENSORS
from spatialdino_core.encoder.precision import arithmetic
from spatialdino_core.encoder.streaming import StreamingEncoder
from spatialdino_core.encoder.vit import VisionTransformer3D
from spatialdino_core.encoder.weights import load_encoder, weights_hash
from spatialdino_core.errors import BadInputError
from spatialdino_core.features.grid import patch_origin_um, patch_spacing_um
from spatialdino_core.features.parameters import FeatureParameters
from spatialdino_core.features.windows import Encoded, encode_windows, whole_patches
from spatialdino_core.geometry.deskewed import DeskewedMovie

DETAIL_SHARE = 1 / 64  # of a patch's voxels: about as many as a particle fills


@dataclass(frozen=True)
class PreparedFrame:
    """A frame as the encoder wants it.

    Attributes
    ----------
    number
        Of the frame.
    volume
        (C, z, y, x) float32 in [0, 1], isotropic, in whole patches.
    """

    number: int
    volume: NDArray[np.float32]


class Model:
    """A finished model.

    Parameters
    ----------
    weights
        Encoder, header and feature basis.
    device
        Where windows are encoded.
    """

    def __init__(self, weights: Path | str, parameters: FeatureParameters, device: torch.device) -> None:
        weights = Path(weights)
        encoder, self.header, extra = load_encoder(weights)
        if absent := sorted(set(BASIS_TENSORS) - set(extra)):
            raise BadInputError(
                weights,
                found=f"no {', '.join(absent)}",
                expected="weights with a feature basis",
                remedy="Use the weights that the repair stage publishes.",
            )
        self.encoder: VisionTransformer3D = encoder.eval().requires_grad_(False).to(device)
        self.device = device
        self.basis = {name: extra[name] for name in BASIS_TENSORS}
        self.hash = weights_hash(weights)
        self.parameters = parameters
        self.window = self.header.field_of_view_voxels[0]
        self.patch = self.header.architecture.patch_voxels
        self.spacing_um = patch_spacing_um(self.header.voxel_um, self.patch)
        self.origin_um = patch_origin_um(self.header.voxel_um, self.patch)
        self.components = min(parameters.components, self.header.architecture.embed_dim)

    @cached_property
    def streaming(self) -> StreamingEncoder:
        """The encoder with the whole frame as its context."""
        parameters = self.parameters
        return StreamingEncoder(
            self.encoder, parameters.streaming, device=self.device, precision=parameters.precision
        )


class MovieEncoder:
    """Encodes the frames of one movie.

    Attributes
    ----------
    bounds
        Intensity scale of each channel of the movie that enters, as in training.
    valid
        Bool (gz, gy, gx): patches of which at least half are data.
    """

    def __init__(self, movie: DeskewedMovie, model: Model) -> None:
        self.movie, self.model = movie, model
        normalisation = NormalisationParameters(**model.header.normalisation)
        self._entering = self._channels()
        self.bounds = [
            movie_bounds(movie, normalisation, channel) for image in self._entering for channel in image
        ]
        inside = self._isotropic(movie.valid.astype(np.float32))
        self._inside = inside > 0.5
        self.valid: NDArray[np.bool_] = (
            _patches(whole_patches(self._inside, model.patch), model.patch).mean(axis=-1) >= 0.5
        )

    def read(self, frame: int) -> PreparedFrame:
        """Read a frame, bring it to the intensities and voxels of the weights, complete it to patches."""
        scales = iter(self.bounds)
        images = [
            [
                self._isotropic(normalise(self.movie.store.read(frame, channel), next(scales)))
                for channel in image
            ]
            for image in self._entering
        ]
        shown = np.stack([image[0] if len(image) == 1 else np.mean(image, axis=0) for image in images])
        return PreparedFrame(frame, whole_patches(shown, self.model.patch))

    def encode(self, frame: PreparedFrame, context: Literal["window", "global"] | None = None) -> Encoded:
        """Tokens of a frame, in the context of the settings unless told otherwise; NaN only where not valid.

        Raises
        ------
        BadInputError
            If a patch that has data has no finite features.
        """
        volume, valid = torch.from_numpy(frame.volume), torch.from_numpy(self.valid)
        if (context or self.model.parameters.context) == "global":
            encoded = self._stream(frame)
        else:
            encoded = encode_windows(
                self.model.encoder,
                volume,
                valid,
                window_voxels=self.model.window,
                overlap=self.model.parameters.overlap,
                batch=self.model.parameters.window_batch,
                dtype=arithmetic(self.model.parameters.precision, self.model.device),
            )
        if not (encoded.tokens[:, valid].isfinite().all() and encoded.attention[:, valid].isfinite().all()):
            raise BadInputError(
                f"features of movie '{self.movie.folder.name}', frame {frame.number}",
                found="NaN or infinite features",
                expected="finite ones, as finite images and weights give",
                remedy="Look at the deskewed frame; if it is well, train again in higher precision.",
            )
        return encoded

    def detail(self, frame: PreparedFrame) -> NDArray[np.float32]:
        """Fine detail of each valid patch (N,): mean of its most detailed voxels, in the first channel."""
        z, y, x = self._inside.shape
        fine = fine_detail(frame.volume[0, :z, :y, :x], self._inside, self.model.parameters.detail_voxels)
        voxels = _patches(whole_patches(fine, self.model.patch), self.model.patch)[self.valid]
        most = max(1, round(voxels.shape[1] * DETAIL_SHARE))
        return np.asarray(np.partition(voxels, -most, axis=1)[:, -most:].mean(axis=1))

    @cached_property
    def blocks(self) -> NDArray[np.intp]:
        """(N,) of each valid patch: number of the window-sized block it is in, neighbours odd and even."""
        side = max(1, self.model.window // self.model.patch)
        return np.asarray((np.argwhere(self.valid) // side).sum(axis=1))

    @property
    def bounds_json(self) -> list[dict[str, Any]]:
        """The intensity scales, JSON-able."""
        return [asdict(scale) for scale in self.bounds]

    def _stream(self, frame: PreparedFrame) -> Encoded:
        streamed = self.model.streaming(frame.volume, valid=self.valid, class_attention=True)
        assert streamed.class_attention is not None
        return Encoded(
            torch.from_numpy(streamed.patch_tokens).movedim(-1, 0),
            torch.from_numpy(streamed.class_attention * np.float32(self.valid.sum())),
            torch.from_numpy(streamed.class_token),
            {"attention": asdict(streamed.report)},
        )

    def _isotropic(self, image: NDArray[Any]) -> NDArray[np.float32]:
        return resample_isotropic(image, self.movie.voxel_um, self.model.header.voxel_um[0])

    def _channels(self) -> tuple[tuple[int, ...], ...]:
        """Channels that enter, each one or several that are averaged: those that were trained on."""
        header, any_channel = self.model.header, self.model.parameters.channels == "any"
        return entering(
            () if any_channel else header.channels,
            header.architecture.channels,
            self.movie.store.about["layout"]["channels"],
            f"features of movie '{self.movie.folder.name}'",
        )


def context_difference(windows: Encoded, whole: Encoded, valid: NDArray[np.bool_]) -> float:
    """How much the tokens of a frame differ in two contexts: ‖A − B‖ / ‖A − mean of A‖ over valid patches.

    0: the context does not matter; 1: it changes patches as much as they differ from each other.
    """
    inside = torch.from_numpy(valid)
    first, second = windows.tokens[:, inside].double(), whole.tokens[:, inside].double()
    spread = torch.linalg.vector_norm(first - first.mean(dim=1, keepdim=True))
    return float(torch.linalg.vector_norm(first - second) / spread.clamp(min=1e-12))


def _patches(volume: NDArray[Any], side: int) -> NDArray[Any]:
    """(z, y, x) in whole patches to (gz, gy, gx, side³)."""
    z, y, x = (n // side for n in volume.shape)
    cut = volume.reshape(z, side, y, side, x, side).transpose(0, 2, 4, 1, 3, 5)
    return cut.reshape(z, y, x, side**3)
