"""Scores of a results folder: what is read from where, and what counts for what."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile

from spatialdino_core.errors import BadInputError
from spatialdino_core.movies.store import FrameStore, StoreLayout
from spatialdino_core.score.__main__ import main
from spatialdino_core.score.run import score_run, score_run_events, score_run_labels

PIXEL_UM = 0.104


def truth_table() -> pd.DataFrame:
    """Two particles over four frames; the second is dark in frames 1 and 3."""
    table = pd.DataFrame([(p, f) for p in (1, 2) for f in range(4)], columns=["particle", "frame"])
    table["z_um"] = 1.0
    table["y_um"] = 2.0
    table["x_um"] = 3.0 * table["particle"] + 0.1 * table["frame"]
    table["x"] = table["x_um"] / PIXEL_UM
    table["visible"] = ~((table["particle"] == 2) & table["frame"].isin([1, 3]))
    return table


def found_tracks() -> pd.DataFrame:
    """A perfect result: the second particle's gap is bridged, its unseen end is not."""
    table = truth_table().rename(columns={"particle": "track_id"})
    table["gap"] = (~table["visible"]).astype(int)
    return table[~((table["track_id"] == 2) & (table["frame"] == 3))].drop(columns="visible")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    (tmp_path / "truth").mkdir()
    truth_table().to_csv(tmp_path / "truth" / "cell.csv", index=False)
    (tmp_path / "results" / "cell").mkdir(parents=True)
    found_tracks().to_csv(tmp_path / "results" / "cell" / "tracks.csv", index=False)
    return tmp_path


def score(run: Path, **gate: float) -> pd.Series:
    return score_run(run / "truth", run / "results", **gate).iloc[0]


def test_perfect_run(run: Path) -> None:
    row = score(run)
    assert row["gate_um"] == pytest.approx(3 * PIXEL_UM)
    assert (row["frames"], row["tracks"], row["id_switches"]) == (4, 2, 0)
    assert row["particles_per_frame"] == pytest.approx(6 / 4)
    for name in ["precision", "recall", "f1", "alpha", "beta", "jsc", "jsc_theta", "link_f1", "complete"]:
        assert row[name] == 1, name
    assert np.isnan(row["minutes"])


def test_gap_positions_count_for_tracks_but_not_for_detection(run: Path) -> None:
    path = run / "results" / "cell" / "tracks.csv"
    tracks = pd.read_csv(path)
    tracks.assign(gap=0).to_csv(path, index=False)
    assert score(run)["precision"] == pytest.approx(6 / 7)
    tracks[tracks["gap"] == 0].to_csv(path, index=False)
    row = score(run)
    assert row["f1"] == 1
    assert row["alpha"] == pytest.approx(6 / 7)


def test_text_booleans_are_understood(run: Path) -> None:
    found_tracks().assign(gap=lambda t: t["gap"] == 1).to_csv(
        run / "results" / "cell" / "tracks.csv", index=False
    )
    assert score(run)["f1"] == 1


def test_candidates_that_tracking_dropped_are_no_detections(run: Path) -> None:
    objects = truth_table().query("visible")[["frame", "z_um", "y_um", "x_um"]]
    extra = objects.assign(z_um=50.0)
    pd.concat([objects, extra]).to_parquet(run / "results" / "cell" / "objects.parquet")
    row = score(run)
    assert row["precision"] == 1
    assert row["recall"] == 1
    assert row["alpha"] == 1


def test_gate_decides(run: Path) -> None:
    path = run / "results" / "cell" / "tracks.csv"
    tracks = pd.read_csv(path)
    tracks.assign(y_um=tracks["y_um"] + 0.25).to_csv(path, index=False)
    assert score(run)["f1"] == 1
    assert score(run)["alpha"] == pytest.approx(1 - 0.25 / (3 * PIXEL_UM), abs=1e-5)
    assert score(run, gate_voxels=2.0)["f1"] == 0
    assert score(run, gate_um=0.26)["f1"] == 1


def test_minutes_sum_over_stages(run: Path) -> None:
    for stage, seconds in [("deskew", 30.0), ("track", 60.0)]:
        folder = run / "results" / "benchmarks" / stage
        folder.mkdir(parents=True)
        (folder / "cell.tsv").write_text(f"s\th:m:s\tmax_rss\n{seconds}\t0:00:00\t5\n")
    assert score(run)["minutes"] == pytest.approx(1.5)


def test_movie_without_results_keeps_its_row(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    truth_table().to_csv(run / "truth" / "other.csv", index=False)
    table = score_run(run / "truth", run / "results")
    assert table["movie"].tolist() == ["cell", "other"]
    assert np.isnan(table["alpha"][1])
    assert main(["--truth", str(run / "truth"), "--results", str(run / "results")]) == 0
    header, cell, other = capsys.readouterr().out.splitlines()
    assert {"movie", "frames", "α", "β", "JSC", "JSCθ", "minutes"} <= set(header.split())
    assert cell.split()[:2] == ["cell", "4"]
    assert other.split()[-1] == "-"
    assert len({len(header), len(cell), len(other)}) == 1


def test_missing_folders_end_with_one_message(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(BadInputError, match=r"tracks\.csv"):
        score_run(run / "truth", run / "nowhere")
    assert main(["--truth", str(run / "nowhere"), "--results", str(run / "results")]) == 1
    assert "truth" in capsys.readouterr().err


def test_table_of_results_without_positions_is_refused(run: Path) -> None:
    found_tracks().drop(columns="z_um").to_csv(run / "results" / "cell" / "tracks.csv", index=False)
    with pytest.raises(BadInputError, match="z_um"):
        score(run)


def split_and_events(run: Path, frame: int, x_um: float) -> None:
    """The second particle now splits from the first in frame 2; a split is reported at the given place."""
    table = truth_table().query("particle == 1 or frame >= 2").assign(visible=True, merged_into=-1)
    table["parent"] = (table["particle"] == 2).map({True: 1, False: -1})
    table.to_csv(run / "truth" / "cell.csv", index=False)
    found = {"event": "fission", "frame": frame, "z_um": 1.0, "y_um": 2.0, "x_um": x_um}
    pd.DataFrame([found]).to_csv(run / "results" / "cell" / "events.csv", index=False)


def test_events_are_scored_where_there_are_any(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert len(score_run_events(run / "truth", run / "results")) == 0
    split_and_events(run, frame=3, x_um=6.2)
    events = score_run_events(run / "truth", run / "results").set_index("event")
    assert events.index.tolist() == ["fission", "fusion", "appearance", "disappearance"]
    assert events.loc["fission", ["found", "expected", "precision", "recall"]].tolist() == [1, 1, 1, 1]
    assert main(["--truth", str(run / "truth"), "--results", str(run / "results")]) == 0
    assert "cell       fission     1        1     1.000  1.000 1.000" in capsys.readouterr().out


@pytest.mark.parametrize(("frame", "x_um", "matches"), [(2, 6.82, 1), (2, 6.83, 0), (0, 6.2, 1), (5, 6.2, 0)])
def test_gates_of_events_are_six_pixels_and_two_frames(
    run: Path, frame: int, x_um: float, matches: int
) -> None:
    split_and_events(run, frame, x_um)
    events = score_run_events(run / "truth", run / "results").set_index("event")
    assert events.loc["fission", "recall"] == matches


def test_labels_are_scored_against_a_stack_of_labels(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("ctc_metrics")
    volumes = np.zeros((4, 1, 6, 8, 16), np.uint32)
    volumes[:, 0, 1:4, 2:5, 2:6], volumes[::2, 0, 1:4, 2:5, 9:13] = 1, 2
    layout = StoreLayout(
        shape_czyx=(1, 6, 8, 16),
        dtype="uint32",
        voxel_um=(0.2, 0.1, 0.1),
        origin_um=(0.0, 0.0, 0.0),
        interval_s=1.0,
        channels=("labels",),
        kind="labels",
    )
    folder = run / "results" / "cell"
    store = FrameStore.prepare(folder / "labels.ome.zarr", layout, 4, {})
    for frame, volume in enumerate(volumes):
        # Found instances are numbered anew in each frame, and one voxel shorter.
        store.write(frame, np.where(np.arange(16) == 2, 0, volume) * (frame + 1))
    tifffile.imwrite(run / "truth" / "cell_truth_labels.ome.tif", volumes[:, 0], photometric="minisblack")
    truth_table().assign(parent=-1, merged_into=-1).to_csv(run / "truth" / "cell.csv", index=False)
    tracks = found_tracks()
    tracks["label"] = tracks["track_id"] * (tracks["frame"] + 1) * (1 - tracks["gap"])
    tracks.to_csv(folder / "tracks.csv", index=False)
    pd.DataFrame(columns=["event", "track_id", "other_track_id", "frame", "z_um", "y_um", "x_um"]).to_csv(
        folder / "events.csv", index=False
    )
    row = score_run_labels(run / "truth", run / "results").iloc[0]
    assert row[["instance_f1", "det", "tra", "hota"]].tolist() == [1, 1, 1, 1]
    # Four instances of 27 of 36 voxels, two of 36.
    assert row["iou"] == row["seg"] == pytest.approx((4 * 27 / 36 + 2) / 6)
    assert row["dice"] == pytest.approx(2 * 180 / (180 + 216))
    assert main(["--truth", str(run / "truth"), "--results", str(run / "results"), "--labels"]) == 0
    assert "HOTA" in capsys.readouterr().out
