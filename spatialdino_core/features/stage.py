"""Features of a movie, frame by frame: principal components, activation and foreground probability.

The intensity scale, the voxel size and the field of view are the weights' own, read from their header.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from spatialdino_core.crops.bounds import movie_bounds
from spatialdino_core.crops.normalise import normalise
from spatialdino_core.crops.parameters import NormalisationParameters
from spatialdino_core.crops.resample import resample_isotropic
from spatialdino_core.device import choose_device
from spatialdino_core.encoder.vit import VisionTransformer3D
from spatialdino_core.encoder.weights import WeightsHeader, load_encoder, weights_hash
from spatialdino_core.errors import BadInputError
from spatialdino_core.features.basis import BASIS_TENSORS, project
from spatialdino_core.features.foreground import ForegroundModel, activation, fit_foreground, probability
from spatialdino_core.features.grid import patch_origin_um, patch_spacing_um
from spatialdino_core.features.parameters import FeatureParameters
from spatialdino_core.features.windows import encode_windows
from spatialdino_core.geometry.deskewed import DeskewedMovie
from spatialdino_core.movies.ledger import FrameJob, FrameLedger, FrameResult, StageRecord, remembered
from spatialdino_core.movies.provenance import software
from spatialdino_core.movies.store import FrameStore, StoreLayout
from spatialdino_core.parameters import digest

FEATURES, FOREGROUND = "features.zarr", "foreground.ome.zarr"


def extract_features(
    deskewed: Path | str,
    weights: Path | str,
    output: Path | str,
    parameters: FeatureParameters,
    *,
    device: str,
    code: str,
) -> None:
    """Compute the features of every frame that is not finished and publish the completion record.

    Parameters
    ----------
    deskewed
        Completion record of the deskewed movie.
    weights
        Finished model: encoder, header and feature basis.
    output
        Completion record to publish; ``features.zarr`` and ``foreground.ome.zarr`` lie beside it.
    device
        ``auto``, ``cpu`` or ``cuda``.
    code
        Hash of the stage's code.
    """
    movie = DeskewedMovie(deskewed)
    model = _Model(Path(weights), parameters, choose_device(device))
    folder = Path(output).parent
    bounds = movie_bounds(movie, NormalisationParameters(**model.header.normalisation))
    depends_on = digest(asdict(parameters), code, model.hash, asdict(bounds))

    def encode(frame: int) -> tuple[Tensor, np.ndarray]:
        return model.encode(normalise(movie.store.read(frame), bounds), movie.valid, movie.voxel_um)

    valid = model.valid_patches(movie.valid, movie.voxel_um)
    foreground = _calibrate(movie, model, encode, valid, folder, depends_on)
    key = digest(depends_on, foreground.as_json())
    about = {"weights": model.hash, "bounds": asdict(bounds), "foreground": foreground.as_json(), "key": key}
    stores = _prepare(folder, movie, model, valid.shape, about)

    def compute(frame: int) -> FrameResult:
        tokens, _ = encode(frame)
        components = project(tokens, model.basis, model.components).numpy()
        active = np.where(valid, activation(components, foreground), 0).astype(np.float32)
        likely = np.where(valid, probability(active, foreground), 0)
        kept = tokens.numpy() if parameters.keep == "all" else components
        sums = [
            stores[0].write(frame, np.where(valid, kept, 0).astype(np.float16)),
            stores[1].write(frame, np.stack([active, likely]).astype(np.float16)),
        ]
        return FrameResult(
            output=digest(sums), facts={"foreground_fraction": float((likely > 0.5)[valid].mean())}
        )

    entries = FrameJob(
        ledger=FrameLedger(folder / "ledger" / "features.jsonl"),
        description=f"features {folder.name}",
        key=key,
        stamps=movie.record.checksums,
        steps={"compute": compute},
        exists=lambda frame: all(store.has(frame) for store in stores),
    ).run()
    StageRecord.of([FEATURES, FOREGROUND], entries, about | {"parameters": asdict(parameters)}).write(output)


class _Model:
    """A finished model on its device."""

    def __init__(self, weights: Path, parameters: FeatureParameters, device: torch.device) -> None:
        encoder, self.header, extra = load_encoder(weights)
        self.encoder: VisionTransformer3D = encoder.eval().requires_grad_(False).to(device)
        self.basis = {name: extra[name] for name in BASIS_TENSORS}
        self.hash = weights_hash(weights)
        self.parameters = parameters
        self.window = _window(self.header, weights)
        side = self.header.architecture.patch_voxels
        self.spacing_um = patch_spacing_um(self.header.voxel_um, side)
        self.origin_um = patch_origin_um(self.header.voxel_um, side)
        width = self.header.architecture.embed_dim
        self.components = min(parameters.components, width)
        self.stored = width if parameters.keep == "all" else self.components

    def encode(
        self, image: np.ndarray, valid: np.ndarray, voxel_um: tuple[float, float, float]
    ) -> tuple[Tensor, np.ndarray]:
        """Tokens (D, gz, gy, gx) and mean intensity (gz, gy, gx) of the patches of a normalised frame,
        resampled to the voxel size of the weights."""
        isotropic = resample_isotropic(image, voxel_um, self.header.voxel_um[0])
        tokens = encode_windows(
            self.encoder,
            torch.as_tensor(isotropic),
            torch.as_tensor(self._inside(valid, voxel_um)),
            window_voxels=self.window,
            overlap=self.parameters.overlap,
            batch=self.parameters.window_batch,
        )
        return tokens, self._patch_means(isotropic, "edge")

    def valid_patches(self, valid: np.ndarray, voxel_um: tuple[float, float, float]) -> np.ndarray:
        """Bool (gz, gy, gx): patches of which at least half are data."""
        return self._patch_means(self._inside(valid, voxel_um), "constant") >= 0.5

    def _inside(self, valid: np.ndarray, voxel_um: tuple[float, float, float]) -> np.ndarray:
        return resample_isotropic(valid.astype(np.float32), voxel_um, self.header.voxel_um[0]) > 0.5

    def _patch_means(self, volume: np.ndarray, padding: Literal["edge", "constant"]) -> np.ndarray:
        side = self.header.architecture.patch_voxels
        padded = np.pad(volume, [(0, -n % side) for n in volume.shape], mode=padding)
        z, y, x = (n // side for n in padded.shape)
        return padded.reshape(z, side, y, side, x, side).mean(axis=(1, 3, 5))


def _window(header: WeightsHeader, weights: Path) -> int:
    sides = set(header.field_of_view_voxels)
    if len(sides) > 1 or header.architecture.channels != 1:
        raise BadInputError(
            weights,
            found=f"field of view {header.field_of_view_voxels}, {header.architecture.channels} channels",
            expected="a cubic field of view and one channel",
            remedy="Use weights trained by this workflow.",
        )
    return sides.pop()


def _calibrate(
    movie: DeskewedMovie,
    model: _Model,
    encode: Callable[[int], tuple[Tensor, np.ndarray]],
    valid: np.ndarray,
    folder: Path,
    depends_on: str,
) -> ForegroundModel:
    """The movie's foreground model, fitted on its first frames and kept."""
    frames = movie.first_frames(model.parameters.calibration_frames)

    def fit() -> dict[str, Any]:
        patches, brightness = [], []
        for frame in frames:
            tokens, means = encode(frame)
            patches.append(project(tokens, model.basis, model.components).numpy()[:, valid].T)
            brightness.append(means[valid])
        return fit_foreground(np.concatenate(patches), np.concatenate(brightness)).as_json()

    key = digest(depends_on, {frame: movie.record.checksums[frame] for frame in frames})
    return ForegroundModel(**remembered(folder / "ledger" / "foreground.json", key, fit))


def _prepare(
    folder: Path, movie: DeskewedMovie, model: _Model, grid: tuple[int, ...], about: dict[str, Any]
) -> tuple[FrameStore, FrameStore]:
    z, y, x = (a + b for a, b in zip(movie.store.origin_um, model.origin_um, strict=True))
    origin_um = (z, y, x)

    def layout(channels: tuple[str, ...]) -> StoreLayout:
        return StoreLayout(
            shape_czyx=(len(channels), grid[0], grid[1], grid[2]),
            dtype="float16",
            voxel_um=model.spacing_um,
            origin_um=origin_um,
            interval_s=movie.interval_s,
            channels=channels,
            kind="map",
        )

    prefix = "token" if model.parameters.keep == "all" else "component"
    names = tuple(f"{prefix}_{number}" for number in range(model.stored))
    facts = about | software()
    return (
        FrameStore.prepare(folder / FEATURES, layout(names), movie.frames, facts),
        FrameStore.prepare(folder / FOREGROUND, layout(("activation", "foreground")), movie.frames, facts),
    )
