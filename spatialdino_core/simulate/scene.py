"""The life of particles in continuous space: birth, motion, blinking, splitting, merging, death.

Everything is in µm and seconds in the deskewed frame; nothing here knows of voxels or of images,
except that `truth_table` also states positions in voxels of the deskewed store.
"""

from __future__ import annotations

import math
from typing import Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from spatialdino_core.simulate.grid import Grid
from spatialdino_core.simulate.parameters import SceneParameters

PARTICLE = np.dtype(
    [
        ("particle", np.int64),
        ("parent", np.int64),
        ("position_um", np.float64, 3),
        ("heading", np.float64, 3),
        ("directed", np.bool_),
        ("visible", np.bool_),
        ("brightness", np.float64),
    ]
)
"""State of one particle between two frames; ``brightness`` is its unbleached peak signal in photons."""

TRUTH_COLUMNS = [
    *("particle", "frame", "time_s", "z_um", "y_um", "x_um", "z", "y", "x"),
    *("brightness", "visible", "parent", "merged_into"),
]
NOBODY = -1
TRIES = 20


class Habitat(Protocol):
    """Where particles may be: a whole imaged volume or a cell in it."""

    def contains(self, points: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Whether points (n, 3) in µm lie inside."""

    def draw(self, count: int, rng: np.random.Generator) -> NDArray[np.float64]:
        """``count`` positions, uniformly distributed inside."""


def live(
    scene: SceneParameters, habitat: Habitat, peak_photons: float, rng: np.random.Generator
) -> tuple[list[NDArray[np.void]], dict[int, int]]:
    """Simulate all particles of a movie.

    A step that would leave the habitat is drawn anew in a random direction, so particles turn at
    walls of any shape. Deaths are balanced by births; merges and splits are not.

    Parameters
    ----------
    scene
        Numbers and rates.
    habitat
        Where particles may be.
    peak_photons
        Unbleached peak signal of a particle of mean brightness.
    rng
        The only source of randomness.

    Returns
    -------
    frames
        Per frame the particles alive, as structured arrays of dtype `PARTICLE`.
    merged_into
        For each particle that ended by merging: the particle that goes on.
    """
    merged_into: dict[int, int] = {}
    alive = _newborn(scene.particles, 1, scene, habitat, peak_photons, rng)
    alive["visible"] = rng.random(len(alive)) >= _dark_fraction(scene)
    next_id = len(alive) + 1
    frames = [alive]
    for _ in range(1, scene.frames):
        alive, births = _die(alive, scene, rng)
        alive = _merge(alive, merged_into, scene, habitat, rng)
        children = _split(alive, next_id, scene, habitat, rng)
        alive = np.concatenate([alive, children])
        _switch(alive, scene, rng)
        _blink(alive, scene, rng)
        _move(alive, scene, habitat, rng)
        next_id += len(children)
        newborn = _newborn(births, next_id, scene, habitat, peak_photons, rng)
        next_id += births
        alive = np.concatenate([alive, newborn])
        frames.append(alive)
    return frames, merged_into


def truth_table(
    frames: list[NDArray[np.void]], merged_into: dict[int, int], scene: SceneParameters, deskewed: Grid
) -> pd.DataFrame:
    """Tabulate the simulated particles, one row per particle and frame.

    Returns
    -------
    pandas.DataFrame
        Sorted by particle and frame. ``z_um, y_um, x_um``: position in the deskewed frame;
        ``z, y, x``: the same in voxels of the deskewed store; ``brightness``: peak signal above
        background in photons after bleaching, 0 while dark (``visible`` false); ``parent``: the
        particle it split from in the frame before its first, or -1; ``merged_into``: the particle
        that goes on after its last frame, or -1. The last two are constant for a particle.
    """
    every = np.concatenate(frames)
    frame = np.repeat(np.arange(len(frames)), [len(alive) for alive in frames])
    time_s = frame * scene.interval_s
    half_life_s = scene.bleaching_half_life_s or math.inf
    table = pd.DataFrame({"particle": every["particle"], "frame": frame, "time_s": time_s})
    table[["z_um", "y_um", "x_um"]] = every["position_um"]
    table[["z", "y", "x"]] = every["position_um"] / np.array(deskewed.voxel_um)
    table["brightness"] = every["brightness"] * every["visible"] * 2.0 ** (-time_s / half_life_s)
    table["visible"] = every["visible"]
    table["parent"] = every["parent"]
    table["merged_into"] = table["particle"].map(merged_into).fillna(NOBODY).astype(np.int64)
    return table[TRUTH_COLUMNS].sort_values(["particle", "frame"], ignore_index=True)


def _newborn(
    count: int,
    first_id: int,
    scene: SceneParameters,
    habitat: Habitat,
    peak_photons: float,
    rng: np.random.Generator,
) -> NDArray[np.void]:
    born = np.zeros(count, PARTICLE)
    born["particle"] = first_id + np.arange(count)
    born["parent"] = NOBODY
    born["position_um"] = habitat.draw(count, rng)
    born["heading"] = _directions(count, rng)
    born["directed"] = rng.random(count) < scene.directed_fraction
    born["visible"] = True
    variance = math.log1p(scene.brightness_cv**2)
    born["brightness"] = peak_photons * rng.lognormal(-variance / 2, math.sqrt(variance), count)
    return born


def _die(
    alive: NDArray[np.void], scene: SceneParameters, rng: np.random.Generator
) -> tuple[NDArray[np.void], int]:
    """Survivors of an interval, and the number of births that on average balance its deaths."""
    if scene.lifetime_s is None:
        return alive.copy(), 0
    death = -math.expm1(-scene.interval_s / scene.lifetime_s)
    return alive[rng.random(len(alive)) >= death], int(rng.poisson(scene.particles * death))


def _merge(
    alive: NDArray[np.void],
    merged_into: dict[int, int],
    scene: SceneParameters,
    habitat: Habitat,
    rng: np.random.Generator,
) -> NDArray[np.void]:
    """Let close pairs of visible particles merge; the brighter one goes on from their common centre."""
    if scene.merge_rate_hz == 0:
        return alive
    probability = -math.expm1(-scene.merge_rate_hz * scene.interval_s)
    pairs = cKDTree(alive["position_um"]).query_pairs(scene.merge_distance_um, output_type="ndarray")
    pairs = pairs[np.lexsort(pairs.T)]
    pairs = pairs[rng.random(len(pairs)) < probability]
    taken: set[int] = set()
    gone: list[int] = []
    for first, second in pairs.tolist():
        if taken & {first, second} or not (alive["visible"][first] and alive["visible"][second]):
            continue
        taken |= {first, second}
        brighter = alive["brightness"][first] >= alive["brightness"][second]
        heir, other = (first, second) if brighter else (second, first)
        _join(alive, heir, other, habitat)
        merged_into[int(alive["particle"][other])] = int(alive["particle"][heir])
        gone.append(other)
    return np.delete(alive, gone)


def _join(alive: NDArray[np.void], heir: int, other: int, habitat: Habitat) -> None:
    both = [heir, other]
    centre = np.average(alive["position_um"][both], axis=0, weights=alive["brightness"][both])
    if habitat.contains(centre[None])[0]:
        alive["position_um"][heir] = centre
    alive["brightness"][heir] = alive["brightness"][both].sum()


def _split(
    alive: NDArray[np.void], next_id: int, scene: SceneParameters, habitat: Habitat, rng: np.random.Generator
) -> NDArray[np.void]:
    """Children of visible particles that split; each takes 30 to 70 % of its parent's brightness."""
    if scene.split_rate_hz == 0:
        return alive[:0]
    probability = -math.expm1(-scene.split_rate_hz * scene.interval_s)
    (splitting,) = np.nonzero((rng.random(len(alive)) < probability) & alive["visible"])
    offsets = scene.split_distance_um * _directions(len(splitting), rng)
    # A half that would fall outside the habitat stays with its parent: no split there.
    inside = habitat.contains(alive["position_um"][splitting] + offsets)
    splitting, offsets = splitting[inside], offsets[inside]
    share = rng.uniform(0.3, 0.7, len(splitting))
    children = alive[splitting].copy()
    children["particle"] = next_id + np.arange(len(splitting))
    children["parent"] = alive["particle"][splitting]
    children["position_um"] += offsets
    children["heading"] = _directions(len(splitting), rng)
    children["brightness"] *= share
    alive["brightness"][splitting] *= 1 - share
    return children


def _switch(alive: NDArray[np.void], scene: SceneParameters, rng: np.random.Generator) -> None:
    switching = rng.random(len(alive)) < -math.expm1(-scene.switching_rate_hz * scene.interval_s)
    count = int(switching.sum())
    alive["directed"][switching] = rng.random(count) < scene.directed_fraction
    alive["heading"][switching] = _directions(count, rng)


def _dark_fraction(scene: SceneParameters) -> float:
    """Share of time that a blinking particle spends in the dark."""
    dark = scene.blink_rate_hz * scene.blink_duration_s
    return dark / (1 + dark)


def _blink(alive: NDArray[np.void], scene: SceneParameters, rng: np.random.Generator) -> None:
    """Turn dark or bright: the two-state Markov process, exact for any interval."""
    if scene.blink_rate_hz == 0:
        return
    dark = _dark_fraction(scene)
    relaxed = -math.expm1(-(scene.blink_rate_hz + 1 / scene.blink_duration_s) * scene.interval_s)
    change = np.where(alive["visible"], dark * relaxed, (1 - dark) * relaxed)
    alive["visible"] ^= rng.random(len(alive)) < change


def _move(
    alive: NDArray[np.void], scene: SceneParameters, habitat: Habitat, rng: np.random.Generator
) -> None:
    moving = np.arange(len(alive))
    for _ in range(TRIES):
        target = alive["position_um"][moving] + _steps(alive[moving], scene, rng)
        inside = habitat.contains(target)
        alive["position_um"][moving[inside]] = target[inside]
        moving = moving[~inside]
        if len(moving) == 0:
            return
        alive["heading"][moving] = _directions(len(moving), rng)


def _steps(
    particles: NDArray[np.void], scene: SceneParameters, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Displacements over one interval (n, 3) in µm: a Gaussian of variance 2 D Δt per axis, plus the run."""
    directed = particles["directed"][:, None]
    diffusion = np.where(directed, scene.directed_diffusion_um2_per_s, scene.diffusion_um2_per_s)
    spread = np.sqrt(2 * diffusion * scene.interval_s)
    run = directed * particles["heading"] * scene.speed_um_per_s * scene.interval_s
    return rng.normal(size=(len(particles), 3)) * spread + run


def _directions(count: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Random unit vectors, shape (count, 3)."""
    vectors = rng.normal(size=(count, 3))
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
