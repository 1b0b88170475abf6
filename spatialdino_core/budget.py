"""What each stage holds in memory and what a movie takes on disk, from shapes alone, before any work.

Pure arithmetic. A formula counts the arrays that are alive at the stage's worst moment, in bytes per voxel or
per patch, and what the program holds before it reads a voxel; that, and what libraries take beside, was
measured. The tests hold formulas to what processes take. MB are 10⁶ bytes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

Shape = tuple[int, int, int]

MB = 1e6
NEAR_FRAMES = 2
"""Frames before and after that segmentation keeps, and whose means it takes apart."""
TILE_VOXELS = 8_000_000
"""Largest tile of segmentation."""
TEXTURE_VOXELS = 2**22
"""Largest part of a stack, in pixels binned by 2 × 2, whose texture the preview looks at."""
LOOK_VOXELS = 8_000_000
"""Largest part of a stack in which the preview looks for particles."""
SLAB_PLANES = 32
"""Planes that the report reads at once."""
HEAP_VOXELS = 2**23
"""Arrays of fewer 32-bit voxels come from the heap of the C library, which keeps what was freed."""
SMALL_VOXELS = 10**6
"""Of the arrays of segmentation that stay in that heap."""
OBJECT_VOXELS = 20_000
"""Voxels of a frame for each particle: crowded frames, where no table says how many there are."""


@dataclass(frozen=True, kw_only=True)
class MovieShape:
    """What of a movie costs memory and disk.

    Attributes
    ----------
    frames, channels
        How many.
    raw
        Voxels of a raw stack (plane, y, x).
    raw_bytes
        Of one of them, as it is recorded.
    deskewed
        Voxels of a deskewed frame (z, y, x).
    filled
        Share of them that no raw voxel reaches.
    slanted
        Whether planes are interpolated, too (coverslip frame, isotropic voxels).
    voxel_um
        Size of a deskewed voxel (z, y, x), µm.
    """

    frames: int
    channels: int
    raw: Shape
    raw_bytes: int
    deskewed: Shape
    filled: float
    slanted: bool
    voxel_um: tuple[float, float, float]

    def isotropic(self, voxel_um: float) -> Shape:
        """Voxels (z, y, x) of a deskewed frame that is resampled to cubic voxels of this size."""
        z, y, x = (
            math.floor((n - 1) * size / voxel_um + 1e-6) + 1
            for n, size in zip(self.deskewed, self.voxel_um, strict=True)
        )
        return z, y, x


@dataclass(frozen=True, kw_only=True)
class EncoderShape:
    """What of an encoder costs memory.

    Attributes
    ----------
    channels, embed_dim, depth, heads, hidden_dim, patch_voxels
        Of its architecture; ``hidden_dim`` is that of the feed-forward layers.
    window_voxels
        Side of the windows that it encodes.
    voxel_um
        Of its isotropic voxels, µm.
    """

    channels: int
    embed_dim: int
    depth: int
    heads: int
    hidden_dim: int
    patch_voxels: int
    window_voxels: int
    voxel_um: float

    @property
    def weights(self) -> int:
        """How many numbers it is made of, but for biases and the like."""
        block = 4 * self.embed_dim**2 + 2 * self.embed_dim * self.hidden_dim
        return self.depth * block + self.channels * self.patch_voxels**3 * self.embed_dim

    def tokens(self, side_voxels: int) -> int:
        """Patches of a cube."""
        return int((side_voxels // self.patch_voxels) ** 3)


def register_mb(movie: MovieShape) -> float:
    """Headers, and a line for each stack."""
    return 75 + 0.002 * movie.frames * movie.channels


def preview_mb(movie: MovieShape, *, looked_at: int = 2) -> float:
    """One stack at a time, a part of it filtered, and the texture of its middle and of the one before.

    Parameters
    ----------
    looked_at
        Frames.
    """
    raw = _voxels(movie.raw)
    texture = 8 * min(raw / 4, TEXTURE_VOXELS) * min(looked_at, 2)
    filtered = 22 * min(raw, LOOK_VOXELS)
    return 142 + (_as_recorded(movie) * raw + 2 * raw + filtered + texture) / MB


def deskew_mb(movie: MovieShape, *, threads: int = 1, tiff: bool = False) -> float:
    """Three frames on their way: one is read, one resampled, one written in several resolutions."""
    raw, out, channels = _voxels(movie.raw), _voxels(movie.deskewed), movie.channels
    frame = 2 * raw + 9.5 * out + (2 * out if tiff else 0)
    table = movie.deskewed[0] * movie.deskewed[2] * (400 if movie.slanted else 100)
    transposed = 128 * movie.raw[0] * movie.raw[2] * threads if movie.slanted else 0
    return 520 + (channels * frame + _as_recorded(movie) * raw + table + transposed) / MB


def shard_mb(
    movie: MovieShape,
    *,
    voxel_um: float,
    crop_voxels: int,
    size_fraction: float = 0.0,
    crops: int = 1,
    channels: int = 1,
) -> float:
    """A frame in isotropic voxels, all of its crops, and one of them on its way to a shard.

    Parameters
    ----------
    crop_voxels, size_fraction
        Smallest side of a crop, to which short axes are filled up, and largest one over that of the frame.
    crops
        Of a frame.
    channels
        That are cut.
    """
    shape = movie.isotropic(voxel_um)
    crop = math.prod(max(crop_voxels, round(size_fraction * n)) for n in shape)
    frame = 9 + 5 * (channels - 1)
    return 500 + (frame * _voxels(shape) + (2 * crops + 8) * crop * channels) / MB


def features_mb(
    movie: MovieShape,
    encoder: EncoderShape,
    *,
    batch: int,
    overlap: float = 0.5,
    processes: int = 1,
    whole_frame: bool = False,
) -> float:
    """Three frames on their way in isotropic voxels; at first the fine detail of one, and windows in work.

    Parameters
    ----------
    batch
        Windows encoded at once.
    overlap
        Fraction of a window that neighbours share.
    processes
        That share the movie's frames; they are started by one more.
    whole_frame
        Whether a patch sees the whole frame: then tokens, keys and values of all are kept.
    """
    shape = movie.isotropic(encoder.voxel_um)
    patches = _patches(movie, encoder)
    tokens = 5 * 4 * (encoder.embed_dim + encoder.heads + 1) * patches
    windows = _windows([-(-n // encoder.patch_voxels) for n in shape], encoder, overlap)
    activations = 4 * min(batch, windows.number) * windows.tokens
    activations *= 14 * encoder.embed_dim + 3 * encoder.hidden_dim
    if whole_frame:
        tokens += 4 * 4 * encoder.embed_dim * patches
    voxels, channels = _voxels(shape), encoder.channels
    detail = max(30 * voxels, 20 * channels * voxels + 58 * min(voxels, HEAP_VOXELS))
    encoding = 28 * channels * voxels + tokens + activations
    work = (max(detail, encoding) + 8 * encoder.weights) / MB
    start = 700.0
    return processes * (start + work) + (start if processes > 1 else 0)


def training_mb(
    encoder: EncoderShape,
    *,
    batch: int,
    views: Sequence[tuple[int, int]],
    guessed: float,
    head_weights: int,
    head_hidden: int,
    prototypes: int,
    checkpointing: bool,
) -> float:
    """Training on a CPU: weights with what the optimiser keeps, activations of all views, logits.

    Logits are those of class tokens and of the patches that are guessed: with many prototypes they take most.

    Parameters
    ----------
    batch
        Crops at once.
    views
        Number and side (voxels) of the views of a crop, global ones first.
    guessed
        Share of the patches of global views.
    head_weights, head_hidden
        Numbers that the projection heads are made of, and the width of their hidden layers.
    checkpointing
        Whether activations are computed twice.
    """
    width, hidden = encoder.embed_dim, encoder.hidden_dim
    tokens = batch * sum(number * encoder.tokens(side) for number, side in views)
    block = 10 * width + 2 * hidden
    kept = encoder.depth * width + block if checkpointing else encoder.depth * block
    answers = batch * (
        sum(number for number, _ in views) + guessed * views[0][0] * encoder.tokens(views[0][1])
    )
    heads = answers * (8 * prototypes + 6 * head_hidden)
    weights = 5 * (encoder.weights + head_weights)
    voxels = 9 * batch * view_voxels(encoder, views)
    return 690 + 4 * (tokens * kept + heads + weights + voxels) / MB


def view_voxels(encoder: EncoderShape, views: Sequence[tuple[int, int]]) -> int:
    """Voxels of the views of a crop."""
    return sum(number * encoder.channels * side**3 for number, side in views)


def repair_mb(encoder: EncoderShape, *, batch: int, crop_voxels: int) -> float:
    """Repair on a CPU: crops with the activations of all blocks; far less without a defect."""
    tokens = batch * encoder.tokens(crop_voxels)
    block = 10 * encoder.embed_dim + 2 * encoder.hidden_dim
    return 500 + 4 * (tokens * encoder.depth * block + 4 * encoder.weights) / MB


def segment_mb(movie: MovieShape, *, reach: int, calibration_frames: int, threads: int = 1) -> float:
    """A window of frames in time with their means; at first the foreground of the calibration's frames.

    Parameters
    ----------
    reach
        Frames before and after that may help.
    threads
        Parts of a frame that are gone through at the same time, each with what is kept of it.
    """
    voxels, frames = _voxels(movie.deskewed), movie.frames
    kept = 2 * min(frames, 2 * NEAR_FRAMES + 1)
    maps = 4 * min(frames, calibration_frames)
    near = 4 * min(reach, NEAR_FRAMES, frames - 1)
    has_far = reach > NEAR_FRAMES and frames > NEAR_FRAMES + 1
    images = 1 + near // 4 + has_far
    far = 8 if has_far else 0  # the sum, and the mean of those that are not near
    summed = kept + maps + near + far
    detected = kept + maps + near + far
    labelled = kept + near + far + 4 + (4 if images > 1 else 0) + 4 + 8
    tile = threads * (38 + 4 * images) * min(TILE_VOXELS, voxels)
    small = 40 * min(SMALL_VOXELS, voxels)
    return 335 + (small + max(voxels * summed, voxels * detected + tile, voxels * labelled)) / MB


def track_mb(objects: int) -> float:
    """Tables of all particles."""
    return 330 + 6000 * objects / MB


def report_mb(movie: MovieShape) -> float:
    """Figures, and some planes at a time."""
    z, y, x = movie.deskewed
    return 288 + 28 * min(z, SLAB_PLANES) * y * x / MB


def objects_in(movie: MovieShape) -> int:
    """Particles of a movie, where no table says how many."""
    return round(movie.frames * _voxels(movie.deskewed) * (1 - movie.filled) / OBJECT_VOXELS)


def deskewed_bytes(movie: MovieShape, *, tiff: bool = False) -> int:
    """Bytes on disk of deskewed frames in all resolutions and their projections, if nothing compresses.

    Fill takes next to nothing. Images of a camera take half of it or less.

    Parameters
    ----------
    tiff
        Whether each frame is written as TIFF, too, which does not compress.
    """
    z, y, x = movie.deskewed
    voxels = z * y * x
    # Two axes halve at first, then three: a quarter, an eighth of that, …
    pyramid = 1 + (1 / 4) / (1 - 1 / 8)
    flat = z * y + z * x + y * x
    frame = pyramid * voxels * (1 - movie.filled) + flat + (voxels if tiff else 0)
    return round(2 * movie.frames * movie.channels * frame)


def features_bytes(movie: MovieShape, encoder: EncoderShape, *, components: int) -> int:
    """Bytes on disk of the numbers that are kept for each patch, and of class tokens."""
    return movie.frames * (2 * components * _patches(movie, encoder) + 4 * encoder.embed_dim)


def foreground_bytes(movie: MovieShape, encoder: EncoderShape) -> int:
    """Bytes on disk of activation and foreground probability."""
    return movie.frames * 2 * 2 * _patches(movie, encoder)


def labels_bytes(movie: MovieShape) -> int:
    """Most bytes on disk of labels. They compress to about a hundredth of it."""
    return movie.frames * 4 * _voxels(movie.deskewed)


class _Windows(NamedTuple):
    number: int
    tokens: int


def _windows(grid: Sequence[int], encoder: EncoderShape, overlap: float) -> _Windows:
    """Windows that a frame of so many patches is encoded in, and the patches of each."""
    whole = encoder.window_voxels // encoder.patch_voxels
    step = max(1, round(whole * (1 - overlap)))
    sides = [min(whole, n) for n in grid]
    numbers = [-(-(n - side) // step) + 1 for n, side in zip(grid, sides, strict=True)]
    return _Windows(math.prod(numbers), math.prod(sides))


def _patches(movie: MovieShape, encoder: EncoderShape) -> int:
    return math.prod(-(-n // encoder.patch_voxels) for n in movie.isotropic(encoder.voxel_um))


def _as_recorded(movie: MovieShape) -> int:
    """Bytes of each raw voxel that are held before they become counts of 2 bytes."""
    return 0 if movie.raw_bytes == 2 else 2 * movie.raw_bytes


def _voxels(shape: Shape) -> int:
    return math.prod(shape)
