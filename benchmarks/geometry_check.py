"""Declared against measured geometry: right stacks that are refused, wrong ones that are found, and the cost.

    python benchmarks/geometry_check.py [--generator FOLDER] [--data FOLDER] [--seed 1000] [--out ...]

Every stack is declared as it is, and in ten wrong ways, each measured anew. ``--generator`` names a folder
with a second simulator (``scene.py``), ``--data`` one with real stacks. Thresholds were chosen on seed 100;
results are of another.
"""

from __future__ import annotations

import argparse
import functools
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import record

from spatialdino_core.geometry.scan import ScanGeometry
from spatialdino_core.optics import OpticsParameters
from spatialdino_core.quality.coherence import noise_p_value, spot_maxima
from spatialdino_core.quality.geometry_check import LEAST_PROMINENCE, Comparison, compare
from spatialdino_core.quality.parameters import QualityParameters
from spatialdino_core.quality.plane_correlation import added, plane_correlations
from spatialdino_core.quality.plane_shift import PlaneShift, plane_shift
from spatialdino_core.quality.verdict import judge
from spatialdino_core.simulate.movie import simulate_movie
from spatialdino_core.simulate.parameters import AcquisitionParameters, MovieParameters, SceneParameters

OPTICS = OpticsParameters()
SNRS, ANGLES, FRAMES = (1.5, 2.0, 3.0, 5.0, 7.0), (30.0, 45.0, 60.0), 3
WORDS = ("contradiction", "same", "cannot tell")
Geometries = dict[str, ScanGeometry]


@dataclass(frozen=True)
class Movie:
    """Stacks, and the geometry they were made with."""

    kind: str
    snr: float
    geometry: ScanGeometry
    stacks: list[np.ndarray]


def ours(snr: float, angle: float, seed: int, cell_photons: float) -> tuple[ScanGeometry, list[np.ndarray]]:
    step = 0.4 if angle < 50 else 0.3
    movie = simulate_movie(
        MovieParameters(
            acquisition=AcquisitionParameters(angle_deg=angle, step_um=step),
            scene=SceneParameters(frames=FRAMES, snr=snr, particles=50, cell_photons=cell_photons),
            seed=seed,
        )
    )
    geometry = ScanGeometry(scan="stage", angle_deg=angle, step_um=step, pixel_um=0.104)
    return geometry, [movie.raw_frame(frame) for frame in range(FRAMES)]


def of_generator(
    scene: Any, scenario: str, snr: float, angle: float, seed: int
) -> tuple[ScanGeometry, list[np.ndarray]]:
    given = scene.params(scenario, snr=snr, shape=(40, 112, 112), frames=FRAMES, n=80, angle=angle)
    made = scene.Scene(given, seed)
    geometry = ScanGeometry(scan="stage", angle_deg=angle, step_um=given["dz"], pixel_um=given["px"])
    return geometry, [made.raw_frame(frame) for frame in range(FRAMES)]


def movies(seed: int, generator: Path | None) -> Iterator[Movie]:
    """Of every kind, SNR and angle one; signs and axes take turns."""
    kinds: dict[str, Callable[[float, float, int], tuple[ScanGeometry, list[np.ndarray]]]] = {
        "particles": functools.partial(ours, cell_photons=0.0),
        "particles in a cell": functools.partial(ours, cell_photons=20.0),
    }
    if generator is not None:
        sys.path.insert(0, str(generator))
        import scene  # type: ignore[import-not-found]

        kinds["particles, second simulator"] = functools.partial(of_generator, scene, "virus")
        kinds["particles in a cell, second simulator"] = functools.partial(of_generator, scene, "endosome")
    turn = seed
    for snr in SNRS:
        for angle in ANGLES:
            for kind, make in kinds.items():
                turn += 1
                geometry, stacks = make(snr, angle, turn)
                if turn % 2:
                    geometry, stacks = replace(geometry, scan_sign=-1), [stack[::-1] for stack in stacks]
                if turn // 2 % 2:
                    geometry = replace(geometry, skew_axis="y")
                    stacks = [stack.swapaxes(1, 2) for stack in stacks]
                yield Movie(kind, snr, geometry, stacks)


def real(data: Path) -> Iterator[tuple[str, ScanGeometry, list[np.ndarray]]]:
    import tifffile

    cell = tifffile.imread(data / "llsm_cell" / "raw_skewed.tif")
    yield "cell, skewed", ScanGeometry(scan="stage", angle_deg=31.5, step_um=0.3, pixel_um=0.1), [cell]
    yeast = tifffile.imread(data / "yeast_mitochondria" / "yeast_3d_mitochondria.ome.tif")
    upright = ScanGeometry(scan="none", step_um=0.25, pixel_um=0.0655)
    yield "yeast, not skewed", upright, [yeast[frame] for frame in (0, 1, 7, 14, 21, 29)]


def declared(true: ScanGeometry) -> Geometries:
    """As it is, and the wrong ways."""
    found: Geometries = {"right": true}
    if true.angle_deg is None:
        return found
    other = "y" if true.skew_axis == "x" else "x"
    found |= {
        "other sign": replace(true, scan_sign=-true.scan_sign),
        "other axis": replace(true, skew_axis=other),  # type: ignore[arg-type]
    }
    for degrees in (5, -5, 10, -10):
        found[f"θ {degrees:+d}°"] = replace(true, angle_deg=true.angle_deg + degrees)
    for percent in (10, -10, 20, -20):
        found[f"step {percent:+d} %"] = replace(true, step_um=true.step_um * (1 + percent / 100))
    return {name.replace("-", "−"): geometry for name, geometry in found.items()}


def measured(stacks: list[np.ndarray], geometry: ScanGeometry) -> PlaneShift | None:
    looks = [plane_correlations(frame, stack, geometry, OPTICS) for frame, stack in enumerate(stacks)]
    together = functools.reduce(added, looks)
    return None if together is None else plane_shift(together)


def rejected(stacks: list[np.ndarray], geometry: ScanGeometry, comparison: Comparison) -> bool:
    """What the review says of both measures together: the shift, and the spots that go on."""
    spots = [spot_maxima(frame, stack, geometry, OPTICS) for frame, stack in enumerate(stacks)]
    seen = [one for one in spots if one is not None]
    measures = {
        "noise_p_value": noise_p_value(seen) if seen else None,
        "mirrored_p_value": noise_p_value(seen, mirrored=True) if seen else None,
    }
    return judge(measures, QualityParameters(), comparison.reason).word == "reject"


def noise_alone(seed: int) -> float:
    """How far the highest peak of 40 movies without particles stands out; a third have a fixed pattern."""
    highest = 0.0
    for turn in range(40):
        rng = np.random.default_rng([seed, turn])
        shape = ((40, 96, 128), (24, 64, 96), (40, 112, 200), (64, 130, 130))[turn % 4]
        light = rng.choice([3, 50]) + rng.gamma(2, 4, shape[1:]) * (turn % 3 == 1)
        stacks = [(100 + rng.poisson(light, shape)).astype(np.uint16) for _ in range(1 + turn % 3)]
        step, angle = (0.3, 0.4, 0.5)[turn % 3], 31.5 if turn % 2 else 55
        shift = measured(stacks, ScanGeometry(scan="stage", angle_deg=angle, step_um=step, pixel_um=0.104))
        highest = max(highest, 0.0 if shift is None else shift.prominence)
    return highest


def costs() -> list[str]:
    """Processor seconds of the whole look at a frame, and of the correlations in it."""
    from spatialdino_core.quality.channel import look_at

    geometry = ScanGeometry(scan="stage", angle_deg=31.5, step_um=0.3, pixel_um=0.1)
    lines = ["| voxels | look at a frame, s | of it plane correlations, s |", "|---|---|---|"]
    for shape in ((88, 320, 256), (64, 256, 510), (150, 750, 750)):
        stack = (100 + np.random.default_rng(0).poisson(10, shape)).astype(np.uint16)
        times = []
        for look in (look_at, plane_correlations):
            begun = time.process_time()
            look(0, stack, geometry, OPTICS)
            times.append(time.process_time() - begun)
        lines.append(f"| {' × '.join(map(str, shape))} | {times[0]:.1f} | {times[1]:.1f} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("generator", "data", "out"):
        parser.add_argument(f"--{name}", type=Path)
    parser.add_argument("--seed", type=int, default=1000)
    a = parser.parse_args()
    words: dict[tuple[str, float], Counter[str]] = {}
    both: dict[tuple[str, float], Counter[bool]] = {}
    runs, kinds = [], Counter[str]()
    for movie in movies(a.seed, a.generator):
        kinds[movie.kind] += 1
        for name, geometry in declared(movie.geometry).items():
            shift = measured(movie.stacks, geometry)
            comparison = compare(shift, geometry)
            words.setdefault((name, movie.snr), Counter())[comparison.word] += 1
            if name in ("right", "other sign"):
                found = rejected(movie.stacks, geometry, comparison)
                both.setdefault((name, movie.snr), Counter())[found] += 1
            run = {"kind": movie.kind, "snr": movie.snr, "declared": name, "word": comparison.word}
            runs.append(run | {"fact": comparison.fact, "angle_deg": movie.geometry.angle_deg})
            print(*run.values(), comparison.fact, flush=True)
    lines = ["# Declared against measured geometry", "", f"Seed {a.seed}. {FRAMES} frames each: "]
    lines[-1] += "; ".join(f"{number} movies of {kind}" for kind, number in kinds.items()) + "."
    lines += ["Refused / confirmed / cannot tell, by SNR.", ""]
    lines += ["| declared |" + "".join(f" {snr:g} |" for snr in SNRS), "|---|" + "---|" * len(SNRS)]
    for name in dict.fromkeys(name for name, _ in words):
        cells = [" / ".join(str(words[name, snr][word]) for word in WORDS) for snr in SNRS]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    lines += [
        "",
        "Rejected by the review, which also knows the spots that go on if scanned the other way:",
        "",
    ]
    lines += ["| declared |" + "".join(f" {snr:g} |" for snr in SNRS), "|---|" + "---|" * len(SNRS)]
    for name in ("right", "other sign"):
        lines.append(f"| {name} | " + " | ".join(str(both[name, snr][True]) for snr in SNRS) + " |")
    seen = [run["word"] for run in runs if run["declared"] == "right"]
    lines += ["", f"Of {len(seen)} right movies {seen.count('contradiction')} are refused."]
    lines += [
        f"Noise alone: the highest peak of 40 movies stands {noise_alone(a.seed):.1f} standard deviations "
        f"out; {LEAST_PROMINENCE:g} are asked for."
    ]
    if a.data is not None:
        lines += ["", "Real stacks:", "", "| stack | declared | word | y, x (pixels) |", "|---|---|---|---|"]
        for stack, true, frames in real(a.data):
            for name, geometry in declared(true).items():
                found_here = compare(measured(frames, geometry), geometry)
                runs.append({"kind": stack, "declared": name, "word": found_here.word})
                fact = found_here.fact.removeprefix("shift between planes: ").removesuffix(" (y, x)")
                lines.append(f"| {stack} | {name} | {found_here.word} | {fact} |")
    lines += ["", "Cost, processor seconds on one thread:", "", *costs()]
    print("\n".join(lines))
    record.write(a.out, {"runs": runs, "seed": a.seed}, "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
