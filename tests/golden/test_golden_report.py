"""Golden values of reports: numbers on the page and in the figures, of movies of many kinds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from golden import Stage
from golden_results import Folder, figures, numbers_in, write_results

from spatialdino_core.errors import BadInputError
from spatialdino_core.report.facts import flatten
from spatialdino_core.report.motion import fit_diffusion, mean_squared_displacement
from spatialdino_core.report.movie import report_movie
from spatialdino_core.report.particle_curves import bin_edges, spread_in_words
from spatialdino_core.report.pictures import round_length
from spatialdino_core.report.projections import Projections, feature_colours, outlines, robust_limits, shrink
from spatialdino_core.report.timings import timings

STAGE = Stage("report", ["report/[!_st]*.py", "report/timings.py"])
EVIDENCE = {"threshold": 0.456, "expected_f1": 0.91, "expected_precision": 0.942, "expected_recall": 0.878}
ABOUT: dict[str, dict[str, Any]] = {
    "deskewed": {"parameters": {"order": 1, "crop": None}},
    "features": {
        "weights": "w",
        "bounds": {"low": 100.25, "high": 400.5},
        "foreground": {
            "separation": 3.2,
            "chosen": "density",
            "evidence": {"activation": {"auroc": 0.81}, "density": {"auroc": 0.93}},
            "median": [0.0] * 16,
        },
        "parameters": {"keep": "components"},
    },
    "labels": {"calibration": {"reach": 8, "single_frame_f1": 0.62, "evidence": EVIDENCE}},
}


def reported(folder: Path, made: Folder) -> dict[str, Any]:
    record = write_results(folder, made)
    return report(folder, made, record)


def report(folder: Path, made: Folder, record: Any) -> dict[str, Any]:
    page = folder / made.movie / "report.html"
    with figures() as drawn:
        report_movie(record, folder / "previews" / f"{record.movie}.json", folder / "benchmarks", page)
    return {"figures": drawn, "page": numbers_in(page)}


@STAGE.scene
def usual(folder: Path) -> dict[str, Any]:
    return reported(folder, Folder(about=ABOUT, channels=("488nm", "560nm"), frames=13))


@STAGE.scene
def doubtful(folder: Path) -> dict[str, Any]:
    """All that deserves a warning; whole tokens; frames left out; many planes, which are read in slabs."""
    features = ABOUT["features"] | {"foreground": {"separation": 1.2}, "parameters": {"keep": "all"}}
    evidence = EVIDENCE | {"expected_f1": 0.4}
    about = {
        "features": features,
        "labels": {"calibration": {"reach": 0, "single_frame_f1": 0.4, "evidence": evidence}},
    }
    made = Folder(
        frames=8,
        particles=25,
        shape=(40, 32, 48),
        voxel_um=(0.2, 0.2, 0.2),
        step_um=0.7,
        bleaching=0.9,
        skipped={3: "dark", 6: "torn"},
        components=7,
        about=about,
        warnings=["frames 2, 5: odd"],
        seed=1,
    )
    return reported(folder, made)


@STAGE.scene
def limits_of_warnings(folder: Path) -> dict[str, Any]:
    """Values on either side of what is warned of, in otherwise equal movies."""
    found: dict[str, Any] = {}
    for number, (separation, f1, bleaching, step) in enumerate(
        [(2.0, 0.5, 0.86, 0.35), (1.99, 0.49, 0.83, 0.55), (2.3, 0.0, 1.0, 0.02)]
    ):
        about = {
            "features": {"foreground": {"separation": separation}},
            "labels": {
                "calibration": {"reach": 1, "single_frame_f1": f1, "evidence": EVIDENCE | {"expected_f1": f1}}
            },
        }
        made = Folder(
            movie=str(number),
            frames=5,
            bleaching=bleaching,
            step_um=step,
            about=about,
            shape=(8, 24, 40),
            seed=2,
        )
        record = write_results(folder, made)
        tracks = folder / made.movie / "tracks.csv"
        table = pd.read_csv(tracks)
        low = table.index % (4 if number == 0 else 2) == 0
        table.loc[table["link_confidence"].notna(), "link_confidence"] = np.where(low, 0.3, 0.5)[
            table["link_confidence"].notna()
        ]
        table.to_csv(tracks, index=False)
        found[str(number)] = report(folder, made, record)["page"]
    return found


@STAGE.scene
def hardly_a_movie(folder: Path) -> dict[str, Any]:
    """One frame; no particle; no link; one plane; a strip that is wider than the screen."""
    small = {"shape": (6, 20, 30), "seed": 3}
    unlinked = Folder(movie="unlinked", frames=2, particles=3, **small)
    record = write_results(folder, unlinked)
    tracks = folder / "unlinked" / "tracks.csv"
    pd.read_csv(tracks).assign(track_id=lambda table: range(len(table))).to_csv(tracks, index=False)
    strip = Folder(
        movie="strip",
        frames=3,
        shape=(1, 16, 800),
        voxel_um=(0.3, 0.5, 0.04),
        times_s=(0.0, 2.0, 60.0),
        seed=4,
    )
    long = Folder(movie="long", frames=66, particles=3, shape=(2, 16, 24), voxel_um=(0.01, 0.2, 2.0), seed=5)
    no_evidence = ABOUT | {"labels": {"calibration": {"evidence": {}}}, "features": {}}
    return {
        "one frame": reported(
            folder, Folder(movie="one", frames=1, interval_s=None, about=no_evidence, **small)
        ),
        "none": reported(folder, Folder(movie="none", frames=3, particles=0, about=ABOUT, **small)),
        "unlinked": report(folder, unlinked, record),
        "strip": reported(folder, strip),
        "long": reported(folder, long),
    }


@STAGE.scene
def refused(folder: Path) -> list[bool]:
    """Results that are absent, of another version or of no finished frame."""
    made = Folder(frames=2, particles=2, shape=(6, 20, 30))
    record = write_results(folder, made)

    def tried() -> bool:
        try:
            report(folder, made, record)
        except BadInputError:
            return True
        return False

    found = [tried()]
    tracks = folder / made.movie / "tracks.csv"
    table = pd.read_csv(tracks)
    table.drop(columns="gap").to_csv(tracks, index=False)
    found.append(tried())
    tracks.unlink()
    found.append(tried())
    table.to_csv(tracks, index=False)
    found.append(tried())
    write_results(folder, Folder(frames=2, particles=2, shape=(6, 20, 30), skipped={0: "", 1: ""}))
    return [*found, tried()]


@STAGE.scene
def numbers(folder: Path) -> dict[str, Any]:
    """What figures are made of, from inputs that small movies do not have."""
    rng = np.random.default_rng(5)
    steps = rng.normal(0.02, 0.1, (60, 20, 3)).cumsum(axis=0)
    rows = [[n, t, *steps[t, n], int(rng.random() < 0.1)] for n in range(20) for t in range(60)]
    tracks = pd.DataFrame(rows, columns=["track_id", "frame", "z_um", "y_um", "x_um", "gap"])
    tracks["time_s"] = 0.5 * tracks["frame"]
    paused = tracks.assign(time_s=tracks["time_s"] + 7.7 * (tracks["frame"] > 20))
    found: dict[str, Any] = {}
    for most in (50, 24, 4):
        for name, table in (("lags", tracks), ("paused", paused)):
            msd = mean_squared_displacement(table, 0.5, most)
            found[f"{name} {most}"] = {"msd": msd, "fits": [fit_diffusion(msd, d) for d in (2, 3)]}
    still = mean_squared_displacement(tracks.assign(z_um=0.0, y_um=0.0, x_um=0.0), 0.5, 8)
    sparse = mean_squared_displacement(tracks[tracks["track_id"] == 3].head(18), 0.5)
    values = {"tail": rng.lognormal(1, 1, 4000), "few": rng.normal(5, 1, 15), "same": np.full(3, 2.0)}
    lengths = {
        "long": rng.integers(1, 400, 500),
        "short": rng.integers(2, 9, 40),
        "one": np.full(5, 3),
        "edge": np.arange(1, 62),
    }
    image = rng.integers(0, 900, (45, 61)).astype(np.uint16)
    labels = (rng.random((9, 11)) < 0.4) * rng.integers(1, 4, (9, 11))
    components = rng.normal(0, 1, (2, 4, 5, 6))
    components[:, :, 1, 2] = 0
    whole = Projections(image, image[:20], (0.5, 0.2, 0.3))
    activations = rng.random((4, 5, 6)).astype(np.float32)
    activations[2, 3] = np.nan
    centres = [(0.0, 0.0), (5.2, 9.0), (99.0, 99.0)]
    parts = [whole.part(centre, 3.1) for centre in centres] + [whole.part((1.0, 1.0), 400.0)]
    return found | {
        "still": [still, fit_diffusion(still), sparse, fit_diffusion(sparse)],
        "bins": {name: bin_edges(each, whole=False) for name, each in values.items()},
        "whole": {name: bin_edges(each.astype(float), whole=True) for name, each in lengths.items()},
        "spread": [spread_in_words(each, "").count(",") for each in (values["few"], np.empty(0))],
        "lengths": [round_length(length) for length in (0.99, 1.0, 1.99, 2.0, 4.9, 5.0, 73.0, 0.031)],
        "limits": [
            robust_limits([image, image[:9] * 2]),
            robust_limits([image * 0]),
            robust_limits([image * 0 + 4]),
        ],
        "shrunk": [shrink(image, most) for most in (61, 60, 20, 7)],
        "outlines": outlines(labels, (0.2, 0.3)),
        "colours": feature_colours(components, activations, np.array([[-1, 1], [0.1, 0.7], [0, 1.0]])),
        "parts": [{"image": part.xy, "first": part.first_um, "size": part.extent_um} for part in parts],
        "facts": len(list(flatten({"a": {"b": 1, "c": {}}, "d": [1, 2.5, True, None], "e": [1] * 7}))),
    }


@STAGE.scene
def times(folder: Path) -> list[Any]:
    """Timings of one job, of several, and of none."""
    for stage, name, lines in [
        ("register", "a.tsv", ["59.96\t12"]),
        ("deskew", "a.tsv", ["100\t5", "3599.4\t-"]),
        ("features", "a.tsv", ["7190\t700"]),
        ("features", "a.0-5.tsv", ["100.5\t900"]),
        ("features", "a.5-9.tsv", ["59.0\tNA"]),
        ("segment", "b.tsv", ["1\t1"]),
        ("track", "a.0-5.tsv", ["1\t1"]),
        (".", "repair.tsv", ["60\t1"]),
    ]:
        (folder / stage).mkdir(exist_ok=True)
        (folder / stage / name).write_text("\n".join(["s\tmax_rss", *lines]) + "\n")
    found = timings(folder, "a", folder / "a")
    return [
        [each, *map(int, "".join(c if c.isdigit() else " " for c in " ".join(each.cells)).split())]
        for each in found
    ]


def test_results_of_reports_stay(tmp_path: Path, write_golden: bool) -> None:
    STAGE.check(tmp_path, write=write_golden)
