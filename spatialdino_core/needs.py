"""What the jobs of a movie need, asked before any is started: its shape, each stage's memory, what to change.

The arithmetic is that of ``spatialdino_core/budget.py``; here it meets sheet, settings and weights.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from spatialdino_core import budget
from spatialdino_core.budget import EncoderShape, MovieShape
from spatialdino_core.config import WorkflowConfig
from spatialdino_core.encoder.header import read_header
from spatialdino_core.encoder.parameters import EncoderParameters
from spatialdino_core.errors import BadInputError
from spatialdino_core.geometry.grid import output_grid
from spatialdino_core.geometry.parameters import DeskewParameters
from spatialdino_core.geometry.scan import ScanGeometry
from spatialdino_core.movies.record import Acquisition
from spatialdino_core.movies.sheet import SheetRow

LEAST_MB = 1000
"""On a cluster Snakemake is started twice for each job."""
MARGIN = 1.25
"""How far formulas may be off."""
BESIDE_MB = 300
"""The shell of a job, and there Snakemake itself."""
DISK_MARGIN = 1.1
GPU_MB = 2500
"""What a process holds in the machine's memory to use a GPU; not measured."""
GPU_TRAINING_MB = 6000
"""The same of training, besides views that wait for the GPU; not measured."""
LOADER_MB = 400
"""What a process that cuts views holds besides them."""
VIEWS_AHEAD = 2
"""Batches that each of them has ready; one is ready where there are none."""
GUESS: Mapping[str, Any] = {"frames": 100, "shape_zyx": (200, 512, 800), "channels": [""], "dtype": "uint16"}
"""A movie that is not registered yet, upright."""
STORE = "deskewed.ome.zarr"
OBJECT_BYTES = 320
"""Of a particle in the table of objects."""


def movie_shape(record: Mapping[str, Any], deskew: DeskewParameters, roi_um: Any = None) -> MovieShape:
    """The shape of a movie by its register's record, or a guess where that is empty.

    Raises
    ------
    BadInputError
        If the geometry is impossible, or the region of interest lies outside.
    """
    known = record if record.get("shape_zyx") and record.get("acquisition") else GUESS
    acquisition = Acquisition(**(known.get("acquisition") or _UPRIGHT))
    geometry = ScanGeometry.of(acquisition)
    grid = output_grid(
        geometry,
        known["shape_zyx"],
        frame=deskew.frame,
        isotropic=deskew.isotropic,
        crop=deskew.crop,
        roi_um=roi_um if known is record else None,
        grid_offset_um=deskew.grid_offset_um,
    )
    planes, y, x = known["shape_zyx"]
    return MovieShape(
        frames=max(1, known["frames"]),
        channels=len(known["channels"]),
        raw=(planes, y, x),
        raw_bytes=np.dtype(known["dtype"]).itemsize if known["dtype"] else 2,
        deskewed=grid.shape,
        filled=1 - float(grid.valid.mean()),
        slanted=deskew.frame == "coverslip" or deskew.isotropic,
        voxel_um=grid.voxel_um,
    )


_UPRIGHT: Mapping[str, Any] = dict(
    scan="none", angle_deg=None, step_um=0.25, pixel_um=0.104, interval_s=1.0, skew_axis=None, scan_sign=1
)


def encoder_shape(config: WorkflowConfig, weights: str, pixel_um: float | None = None) -> EncoderShape:
    """The shape of the encoder in a file, or of the one that is to be trained where there is none yet.

    Parameters
    ----------
    weights
        The file.
    pixel_um
        Of the movies that train, where the sheet says so.
    """
    try:
        header = read_header(Path(weights))
    except BadInputError:
        voxel_um = config.crops.voxel_um or pixel_um or _UPRIGHT["pixel_um"]
        return _encoder_shape(config.encoder, config.pretrain.global_crop_voxels, voxel_um)
    return _encoder_shape(header.architecture, header.field_of_view_voxels[0], header.voxel_um[0])


def _encoder_shape(architecture: EncoderParameters, window_voxels: int, voxel_um: float) -> EncoderShape:
    return EncoderShape(
        channels=architecture.channels,
        embed_dim=architecture.embed_dim,
        depth=architecture.depth,
        heads=architecture.heads,
        hidden_dim=architecture.mlp_dim,
        patch_voxels=architecture.patch_voxels,
        window_voxels=window_voxels,
        voxel_um=voxel_um,
    )


@dataclass(frozen=True, kw_only=True)
class Needs:
    """What stages need under some settings.

    Attributes
    ----------
    config
        The settings.
    encoder
        Shape of the encoder that movies meet.
    gpu
        Whether there is a GPU for what can use one.
    gpu_of_segment
        Whether segmentation has one, too: it asks for none unless ``device`` insists.
    """

    config: WorkflowConfig
    encoder: EncoderShape
    gpu: bool = False
    gpu_of_segment: bool = False

    def model_mb(self, stage: str) -> float:
        """Memory of what makes the model, of each process on a machine, MB."""
        if stage == "repair":
            if self.gpu:
                return GPU_TRAINING_MB
            crop = max(self.config.crops.crop_voxels, self.encoder.patch_voxels)
            return budget.repair_mb(self.encoder, batch=self.config.repair.batch_size, crop_voxels=crop)
        recipe, width = self.config.pretrain, self.config.encoder.embed_dim
        views = ((2, recipe.global_crop_voxels), (recipe.local_crops, recipe.local_crop_voxels))
        step = -(-recipe.batch_size // recipe.processes // recipe.nodes)
        workers = recipe.loader_workers
        step_mb = 4 * step * budget.view_voxels(self.encoder, views) / budget.MB
        fed = LOADER_MB * workers + step_mb * VIEWS_AHEAD * workers
        if self.gpu:
            return recipe.processes * (GPU_TRAINING_MB + VIEWS_AHEAD * step_mb + fed)
        hidden, bottleneck = recipe.head_hidden_dim, recipe.head_bottleneck_dim
        head = width * hidden + hidden**2 + hidden * bottleneck + bottleneck * recipe.prototypes
        # Views of all micro-batches of a step are there when it begins.
        waiting = VIEWS_AHEAD * step_mb * (1 - 1 / recipe.accumulation)
        training = budget.training_mb(
            self.encoder,
            batch=-(-step // recipe.accumulation),
            views=views,
            guessed=recipe.masked_share * (recipe.mask_ratio_min + recipe.mask_ratio_max) / 2,
            head_weights=head * (1 if recipe.heads == "shared" else 2),
            head_hidden=hidden,
            prototypes=recipe.prototypes,
            checkpointing=recipe.activation_checkpointing,
        )
        return recipe.processes * (training + waiting + fed)

    def memory_mb(self, stage: str, movie: MovieShape, threads: int = 1, objects: int | None = None) -> float:
        """Memory of a stage by its formula, MB."""
        c = self.config
        made: dict[str, Callable[[], float]] = {
            "register": lambda: budget.register_mb(movie),
            "preview": lambda: budget.preview_mb(movie, looked_at=c.quality.frames),
            "deskew": lambda: budget.deskew_mb(movie, threads=threads, tiff=c.deskew.tiff),
            "shard": lambda: budget.shard_mb(
                movie,
                voxel_um=c.crops.voxel_um or movie.voxel_um[2],
                crop_voxels=c.crops.crop_voxels,
                size_fraction=c.crops.max_size_fraction,
                crops=c.crops.crops_per_frame,
                channels=1 if c.crops.channels == "single" else movie.channels,
            ),
            "features": lambda: self._features_mb(movie),
            "segment": lambda: self._segment_mb(movie, threads),
            "track": lambda: budget.track_mb(budget.objects_in(movie) if objects is None else objects),
            "report": lambda: budget.report_mb(movie),
        }
        using = {"features": c.features.processes * self.gpu, "segment": self.gpu_of_segment}
        return made[stage]() + GPU_MB * using.get(stage, 0)

    def _segment_mb(self, movie: MovieShape, threads: int = 1) -> float:
        c = self.config.segment
        reach, frames = c.temporal_reach_frames, c.calibration_frames
        return budget.segment_mb(movie, reach=reach, calibration_frames=frames, threads=threads)

    def _features_mb(self, movie: MovieShape) -> float:
        """Of features, or of what decides that there are none."""
        c = self.config.features
        if c.use == "never":
            return LEAST_MB
        encoding = budget.features_mb(
            movie,
            self.encoder,
            batch=c.window_batch,
            overlap=c.overlap,
            processes=c.processes,
            whole_frame=c.context == "global",
        )
        return max(encoding, self._segment_mb(movie) if c.use == "auto" else 0)

    def request_mb(self, stage: str, movie: MovieShape, threads: int = 1, objects: int | None = None) -> int:
        """What a job asks for, MB."""
        return request_mb(self.memory_mb(stage, movie, threads, objects))


def objects_of(table: Path) -> int | None:
    """About how many particles a table holds; ``None`` where there is none yet."""
    return table.stat().st_size // OBJECT_BYTES if table.exists() else None


def request_mb(needed_mb: float) -> int:
    """What a job asks for that needs so much by its formula, MB."""
    return max(LEAST_MB, round(MARGIN * needed_mb + BESIDE_MB))


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A movie that may be too large.

    Attributes
    ----------
    movie
        Its name.
    rows
        Of the sample sheet.
    record
        The register's.
    """

    movie: str
    rows: Sequence[SheetRow]
    record: Mapping[str, Any]

    def shape(self, deskew: DeskewParameters) -> MovieShape:
        """Its shape under some settings."""
        return movie_shape(self.record, deskew, self.rows[0].roi_um)


REMEDIES: Mapping[str, Sequence[tuple[str, str, Any]]] = {
    "deskew": (("deskew", "isotropic", False), ("deskew", "frame", "deskewed"), ("deskew", "crop", "core")),
    "features": (
        ("features", "processes", 1),
        ("features", "window_batch", 1),
        ("features", "context", "window"),
        ("features", "use", "never"),
    ),
    "segment": (("segment", "temporal_reach_frames", 0), ("segment", "calibration_frames", 1)),
}
"""Settings that take memory of a stage: section, key and the least costly value."""


def too_large(
    candidate: Candidate, needs: Needs, room_mb: int, stages: Sequence[str]
) -> BadInputError | None:
    """Why a movie cannot be worked on with so much memory, and what would help; ``None`` if it can.

    Parameters
    ----------
    stages
        That have something to do.
    """
    shape = candidate.shape(needs.config.deskew)
    over = {stage: mb for stage in stages if (mb := needs.memory_mb(stage, shape)) > room_mb}
    if not over:
        return None
    most = max(over.values())
    return BadInputError(
        f"movie '{candidate.movie}'",
        found=f"frames of {' × '.join(map(str, shape.deskewed))} voxels, for which "
        f"{' and '.join(f'{stage} takes {_gb(mb)}' for stage, mb in over.items())} of memory",
        expected=f"no more than the {_gb(room_mb)} that there are",
        remedy=_remedy(candidate, needs, room_mb, stages, most),
    )


def _remedy(candidate: Candidate, needs: Needs, room_mb: int, stages: Sequence[str], most_mb: float) -> str:
    """What lets the movie fit, each tried by the same formulas."""
    ways = [f"set {', '.join(way)}" for way in _settings_that_fit(candidate, needs, room_mb, stages)][:2]
    share = _share_that_fits(candidate, needs, room_mb, stages)
    if share > 0:
        ways.append(f"give a roi_um of at most {share:.0%} of the frame in the sample sheet")
    ways.append(f"run it on a machine or a cluster with {_gb(MARGIN * most_mb)}")
    return "Other movies go on. For this one: " + "; or ".join(ways) + "."


def _settings_that_fit(
    candidate: Candidate, needs: Needs, room_mb: int, stages: Sequence[str]
) -> Iterator[list[str]]:
    """Changes of settings with which all stages fit: single ones, else all of those that matter."""

    def fits(changes: Sequence[tuple[str, str, Any]]) -> bool:
        config = needs.config
        for section, key, value in changes:
            config = _changed(config, section, key, value)
        try:
            shape = candidate.shape(config.deskew)
        except BadInputError:  # no such core
            return False
        return all(replace(needs, config=config).memory_mb(stage, shape) <= room_mb for stage in stages)

    possible = [
        (section, key, value)
        for stage in stages
        for section, key, value in REMEDIES.get(stage, ())
        if getattr(getattr(needs.config, section), key) != value
    ]
    single = [[change] for change in possible if fits([change])]
    for changes in single or ([possible] if len(possible) > 1 and fits(possible) else []):
        yield [f"{section}.{key}: {_plain(value)}" for section, key, value in changes]


Way = tuple[tuple[str, str, Any], ...]
"""Settings that are changed together: section, key and value."""


def check_model_memory(
    needs: Needs, room_mb: int, stages: Sequence[str], movies: Mapping[str, MovieShape]
) -> None:
    """Refuse to make a model for which there is not enough memory, before anything is computed.

    Parameters
    ----------
    room_mb
        What there is.
    stages
        ``pretrain``, ``repair``: those that have something to do.
    movies
        Movies that crops are to be cut from, as far as their shape is known.

    Raises
    ------
    BadInputError
        With what to change for each stage, tried by the same formulas.
    """
    tasks: dict[str, tuple[str, Callable[[Needs], float]]] = {
        stage: (stage, partial(Needs.model_mb, stage=stage)) for stage in stages
    }
    tasks |= {
        f"shard of movie '{movie}'": ("shard", partial(Needs.memory_mb, stage="shard", movie=shape))
        for movie, shape in movies.items()
    }
    over = {name: task(needs) for name, (_, task) in tasks.items() if task(needs) > room_mb}
    if not over:
        return
    ways = dict.fromkeys(filter(None, (_way_that_fits(needs, room_mb, *tasks[name]) for name in over)))
    remedies = [f"set {'; and '.join(ways)}"] if ways else []
    if "pretrain" in stages:
        remedies.append("set model.source: bundled, for the encoder that comes with this")
    if any(tasks[name][0] == "shard" for name in over):
        remedies.append("mark smaller movies with train: yes")
    if "pretrain" in over and not needs.gpu:
        remedies.append("train on GPUs: a CPU is for small models, such as that of recipes/demo.yaml")
    remedies.append(f"run it on a machine or a cluster with {_gb(MARGIN * max(over.values()))}")
    text = "; or ".join(remedies)
    raise BadInputError(
        "the model that is to be made",
        found=f"{' and '.join(f'{name} takes {_gb(mb)}' for name, mb in over.items())} of memory",
        expected=f"no more than the {_gb(room_mb)} that there are",
        remedy=f"{text[0].upper()}{text[1:]}.",
    )


def _way_that_fits(needs: Needs, room_mb: int, stage: str, task: Callable[[Needs], float]) -> str:
    """The least change of settings with which a stage that makes the model fits; empty where none does."""
    for way in _ways(needs.config, stage):
        try:
            config = needs.config
            for change in way:
                config = _changed(config, *change)
        except ValidationError:  # settings that contradict others
            continue
        if task(replace(needs, config=config)) <= room_mb:
            changed = [c for c in way if getattr(getattr(needs.config, c[0]), c[1]) != c[2]]
            return ", ".join(f"{section}.{key}: {_plain(value)}" for section, key, value in changed)
    return ""


def _ways(config: WorkflowConfig, stage: str) -> Iterator[Way]:
    """What takes memory of a stage that makes the model, the gentlest change first."""
    if stage == "repair":
        for batch in _halves(config.repair.batch_size):
            yield (("repair", "batch_size", batch),)
    elif stage == "shard":
        fixed: Way = (("crops", "min_size_fraction", 0.0), ("crops", "max_size_fraction", 0.0))
        for number in _halves(config.crops.crops_per_frame):
            yield (("crops", "crops_per_frame", number),)
        yield fixed
        # No view is larger than a crop.
        smallest = min(config.crops.crop_voxels, config.pretrain.global_crop_voxels)
        yield *fixed, ("crops", "crops_per_frame", 1), ("crops", "crop_voxels", smallest)
    else:
        recipe = config.pretrain
        for workers in [*_halves(recipe.loader_workers), 0][: recipe.loader_workers]:
            yield (("pretrain", "loader_workers", workers),)
        idle: Way = (("pretrain", "loader_workers", 0),) if recipe.loader_workers else ()
        batches = [batch for batch in _halves(recipe.batch_size) if batch >= 2]
        for batch in batches:
            if recipe.batch_size % batch == 0:
                yield *idle, ("pretrain", "accumulation", recipe.batch_size // batch)
        for batch in batches:
            yield *idle, ("pretrain", "accumulation", 1), ("pretrain", "batch_size", batch)
        smallest = config.encoder.patch_voxels
        for factor in (2, 4):
            sides = (recipe.global_crop_voxels, recipe.local_crop_voxels)
            big, small = (max(smallest, side // factor // smallest * smallest) for side in sides)
            yield (
                *idle,
                *(("pretrain", "accumulation", 1), ("pretrain", "batch_size", 8)),
                *(("pretrain", "global_crop_voxels", big), ("pretrain", "local_crop_voxels", small)),
                ("pretrain", "prototypes", min(recipe.prototypes, 1024)),
            )


def _halves(number: int) -> Iterator[int]:
    """Half of a number, half of that, … to 1."""
    while number > 1:
        number //= 2
        yield number


def _changed(config: WorkflowConfig, section: str, key: str, value: Any) -> WorkflowConfig:
    return replace(config, **{section: replace(getattr(config, section), **{key: value})})


def _share_that_fits(candidate: Candidate, needs: Needs, room_mb: int, stages: Sequence[str]) -> float:
    """The largest part of a frame, in whole hundredths, with which all stages fit; 0 if none does."""
    shape = candidate.shape(needs.config.deskew)
    for hundredths in range(99, 0, -1):
        y = max(1, shape.deskewed[1] * hundredths // 100)
        part = replace(shape, deskewed=(shape.deskewed[0], y, shape.deskewed[2]))
        if all(needs.memory_mb(stage, part) <= room_mb for stage in stages):
            return hundredths / 100
    return 0.0


def _gb(mb: float) -> str:
    return f"{mb / 1000:.3g} GB"


def _plain(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def check_disk(
    movie: str, folder: Path, shape: MovieShape, *, tiff: bool, free_bytes: int | None = None
) -> None:
    """Refuse to deskew a movie that would not fit on the disk of its results.

    Frames that are there already are not written again.

    Parameters
    ----------
    folder
        Results of the movie; it need not exist.
    tiff
        Whether frames are written as TIFF, too.
    free_bytes
        By default what the file system says.

    Raises
    ------
    BadInputError
        With the numbers.
    """
    place = next(parent for parent in [folder.resolve(), *folder.resolve().parents] if parent.exists())
    free = shutil.disk_usage(place).free if free_bytes is None else free_bytes
    left = max(0, shape.frames - len(list((folder / STORE / "0" / "c").glob("[0-9]*"))))
    needed = DISK_MARGIN * budget.deskewed_bytes(shape, tiff=tiff) * left / shape.frames
    if needed > free:
        raise BadInputError(
            f"movie '{movie}'",
            found=f"{_gb(free / 1e6)} free on the disk of {folder.parent}",
            expected=f"{_gb(needed / 1e6)} for {left} frames that are to be deskewed, if nothing compresses",
            remedy="Make room there, or put 'results' on another disk, and run again. Nothing was written.",
        )
