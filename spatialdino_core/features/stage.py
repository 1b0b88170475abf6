"""Features of a movie, frame by frame: principal components, activation, foreground, class token.

The intensity scale, the voxel size and the field of view are the weights' own, read from their header.
While a frame is encoded the next one is read and the one before is written. How several GPUs share the
frames is in `shares.py`.
"""

from __future__ import annotations

import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from spatialdino_core.device import choose_device
from spatialdino_core.features.activation import summed_features
from spatialdino_core.features.basis import project
from spatialdino_core.features.encoding import Model, MovieEncoder, PreparedFrame, context_difference
from spatialdino_core.features.foreground import ForegroundModel, fit_foreground
from spatialdino_core.features.high_resolution import HIGH_RESOLUTION, write_high_resolution
from spatialdino_core.features.parameters import FeatureParameters
from spatialdino_core.features.shares import devices, owned, run_shares
from spatialdino_core.features.stores import FeatureStores
from spatialdino_core.features.windows import Encoded
from spatialdino_core.geometry.deskewed import DeskewedMovie
from spatialdino_core.movies.features import FEATURES, FOREGROUND
from spatialdino_core.movies.ledger import FrameJob, FrameLedger, FrameResult, remembered
from spatialdino_core.movies.part import WHOLE, Part, beside, collected
from spatialdino_core.movies.provenance import software
from spatialdino_core.movies.stage_record import StageRecord
from spatialdino_core.parameters import digest

LEDGER = "ledger/features.jsonl"


@dataclass(frozen=True)
class _Computed:
    """A frame on its way to the stores."""

    number: int
    features: NDArray[np.float16]
    maps: NDArray[np.float16]
    class_token: NDArray[np.float32]
    facts: dict[str, Any]


def extract_features(
    deskewed: Path | str,
    weights: Path | str,
    output: Path | str,
    parameters: FeatureParameters,
    *,
    device: str,
    version: str,
    part: Part = WHOLE,
    verify: bool = False,
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
    version
        Of the stage's results: `movies.provenance.identity`.
    part
        Frames of this job, whose record is then of them alone.
    verify
        Whether finished frames are read to see that they are intact.
    """
    folder = Path(output).parent
    encoder = MovieEncoder(DeskewedMovie(deskewed), Model(weights, parameters, choose_device(device)))
    movie, model = encoder.movie, encoder.model
    depends_on = digest(parameters.of_result, version, model.hash, encoder.bounds_json)
    foreground, context = _calibrate(encoder, folder, depends_on)
    key = digest(depends_on, asdict(foreground))
    about = {
        "weights": model.hash,
        "bounds": encoder.bounds_json[0],
        "foreground": foreground.summary(),
        "context": context,
        "explained_variance": model.basis["pca.explained_variance"][: model.components].tolist(),
        "key": key,
    } | software("features")
    stores = FeatureStores.prepare(folder, encoder, about, part)
    ledger = collected(part.ledger(folder / LEDGER))
    frames = part.of(sorted(movie.record.checksums))
    if parameters.processes > 1 and frames:
        shares = [
            _Share(
                str(deskewed),
                str(weights),
                folder,
                part,
                parameters,
                foreground,
                key,
                str(each),
                rank,
                verify,
            )
            for rank, each in enumerate(devices(model.device, parameters.processes))
        ]
        run_shares(_do_share, shares)
    # Alone, this computes all that is not finished; after the others, it finds everything finished.
    entries = _frame_job(encoder, stores, foreground, collected(ledger), key, frames, str(part), verify).run()
    listed = [FEATURES, FOREGROUND]
    if parameters.high_resolution and part.completes:
        sums = {entry.frame: entry.output for entry in entries}
        write_high_resolution(movie, stores, sums, folder, parameters, encoder.bounds[0], version)
        listed.append(HIGH_RESOLUTION)
    elif part.prepares:
        shutil.rmtree(folder / HIGH_RESOLUTION, ignore_errors=True)
    StageRecord.of(listed, entries, about | {"parameters": asdict(parameters)}).write(output)


def _calibrate(
    encoder: MovieEncoder, folder: Path, depends_on: str
) -> tuple[ForegroundModel, dict[str, Any]]:
    """The movie's foreground model, fitted on its first frames and kept, and what is known of the context."""
    movie, model = encoder.movie, encoder.model
    frames = movie.first_frames(model.parameters.calibration_frames)

    def fit() -> dict[str, Any]:
        components, sums, content = [], [], []
        context: dict[str, Any] = {"kind": model.parameters.context}
        for number in frames:
            frame = encoder.read(number)
            encoded = encoder.encode(frame)
            if model.parameters.context == "global" and number == frames[0]:
                windows = encoder.encode(frame, "window")
                context["difference_from_windows"] = context_difference(windows, encoded, encoder.valid)
                context |= encoded.facts
            components.append(_components(encoded, model)[:, encoder.valid].T)
            sums.append(summed_features(encoded)[encoder.valid])
            content.append(encoder.detail(frame))
        fitted = fit_foreground(
            np.concatenate(components),
            np.concatenate(sums),
            np.concatenate(content),
            np.concatenate([encoder.blocks + number for number in range(len(frames))]),
            model.parameters.bright_percentile,
        )
        return {"foreground": asdict(fitted), "context": context}

    key = digest(depends_on, {frame: movie.record.checksums[frame] for frame in frames})
    kept = remembered(folder / "ledger" / "foreground.json", key, fit)
    return ForegroundModel(**kept["foreground"]), kept["context"]


def _components(encoded: Encoded, model: Model) -> NDArray[np.float32]:
    return np.asarray(project(encoded.tokens, model.basis, model.components).numpy())


def _frame_job(
    encoder: MovieEncoder,
    stores: FeatureStores,
    foreground: ForegroundModel,
    ledger: FrameLedger,
    key: str,
    frames: list[int],
    which: str = "",
    verify: bool = False,
) -> FrameJob:
    """The job of some frames of the movie."""
    valid, model = encoder.valid, encoder.model

    def encode(frame: PreparedFrame) -> _Computed:
        encoded = encoder.encode(frame)
        components = _components(encoded, model)
        active = np.where(valid, foreground.activation.of(summed_features(encoded)), 0)
        probability = np.zeros(valid.shape, np.float32)
        probability[valid] = foreground.probability(components[:, valid].T, active[valid])
        kept = encoded.tokens.numpy() if model.parameters.keep == "all" else components
        return _Computed(
            frame.number,
            np.where(valid, kept, 0).astype(np.float16),
            np.stack([active, probability]).astype(np.float16),
            encoded.class_token.numpy(),
            {"foreground_fraction": float((probability[valid] > 0.5).mean())} | encoded.facts,
        )

    def write(done: _Computed) -> FrameResult:
        output = stores.write(done.number, done.features, done.maps, done.class_token)
        return FrameResult(output=output, facts=done.facts)

    return FrameJob(
        ledger=ledger,
        description=f"features {encoder.movie.folder.name}{which}",
        key=key,
        stamps={frame: encoder.movie.record.checksums[frame] for frame in frames},
        steps={"read": encoder.read, "compute": encode, "write": write},
        stores=[stores.features, stores.foreground],
        verify=verify,
    )


@dataclass(frozen=True)
class _Share:
    """What a process needs to do its frames; sent to it by pickling."""

    deskewed: str
    weights: str
    folder: Path
    part: Part
    parameters: FeatureParameters
    foreground: ForegroundModel
    key: str
    device: str
    rank: int
    verify: bool


def _do_share(share: _Share) -> None:
    """The frames of one process."""
    model = Model(share.weights, share.parameters, torch.device(share.device))
    encoder = MovieEncoder(DeskewedMovie(share.deskewed), model)
    frames = owned(
        share.part.of(sorted(encoder.movie.record.checksums)), share.rank, share.parameters.processes
    )
    stores = FeatureStores.open(share.folder)
    ledger = beside(share.part.ledger(share.folder / LEDGER), f"-{share.rank}")
    _frame_job(encoder, stores, share.foreground, ledger, share.key, frames, "", share.verify).run()
