"""The whole workflow on small movies: results, contracts, and what a second run costs."""

from __future__ import annotations

import shutil

import numpy as np
import pandas as pd
import pytest
import tifffile
import zarr
from ome_zarr_models.v05 import Image, ImageLabel

from tests.workflow.conftest import FRAMES, Project

pytestmark = pytest.mark.workflow
TRACK_COLUMNS = (
    "track_id,frame,time_s,z,y,x,z_um,y_um,x_um,label,volume_um3,intensity_mean,intensity_sum,snr,"
    "link_cost,link_confidence,track_confidence,gap"
)


@pytest.mark.parametrize("movie", ["series", "single"])
def test_every_result_of_a_movie_is_there_and_keeps_its_contract(finished: Project, movie: str) -> None:
    folder = finished.results / movie
    Image.from_zarr(zarr.open_group(folder / "deskewed.ome.zarr", mode="r"))
    Image.from_zarr(zarr.open_group(folder / "foreground.ome.zarr", mode="r"))
    ImageLabel.from_zarr(zarr.open_group(folder / "labels.ome.zarr", mode="r"))
    assert (folder / "tracks.csv").read_text().splitlines()[0] == TRACK_COLUMNS
    header = (folder / "events.csv").read_text().splitlines()[0]
    assert header == "event,frame,time_s,z_um,y_um,x_um,track_id,other_track_id,score"
    assert "<img" in (folder / "report.html").read_text()
    objects = pd.read_parquet(folder / "objects.parquet")
    assert set(objects["frame"]) <= set(range(FRAMES))
    labels = zarr.open_array(folder / "labels.ome.zarr" / "0", mode="r")
    for frame, table in objects.groupby("frame"):
        assert sorted(table["label"]) == sorted(set(np.unique(np.asarray(labels[int(frame)]))) - {0})


def test_the_run_has_a_review_a_model_and_a_summary(finished: Project) -> None:
    for name in (
        "qc/metrics.tsv",
        "qc/contact_sheet.html",
        "qc/decisions.tsv",
        "summary.html",
        "summary.tsv",
    ):
        assert (finished.results / name).stat().st_size > 0
    for name in ("pretrained.safetensors", "repaired.safetensors", "repair.json", "metrics.csv"):
        assert (finished.results / "model" / name).stat().st_size > 0
    assert (finished.results / "shards" / "series" / "shard-000000.tar").exists()
    assert not (finished.results / "shards" / "single").exists()


def test_a_second_run_has_nothing_to_do(finished: Project) -> None:
    assert "Nothing to be done" in finished.run("--quiet", "progress").stdout


def jobs(project: Project, *arguments: str) -> dict[str, int]:
    """Jobs that a run would do, by rule."""
    lines = project.run("--dry-run", "--quiet", "rules", *arguments).stdout.splitlines()
    pairs = [line.split() for line in lines]
    return {p[0]: int(p[1]) for p in pairs if len(p) == 2 and p[1].isdigit() and p[0] not in ("total", "all")}


def test_a_changed_tracking_parameter_costs_tracking_and_reports(copy: Project) -> None:
    copy.set("track", max_gap_frames=1)
    assert jobs(copy) == {"track": 2, "report": 2, "summary": 1}


def test_asking_for_tiffs_never_retrains(copy: Project) -> None:
    copy.set("deskew", tiff=True)
    planned = jobs(copy)
    assert planned["deskew"] == 2
    assert not {"shard", "pretrain", "repair"} & set(planned)


def test_a_rewritten_frame_costs_that_frame(copy: Project) -> None:
    path = sorted((copy.folder / "raw" / "series").glob("*.tif"))[3]
    stack = tifffile.imread(path)
    tifffile.imwrite(path, stack[:, ::-1], photometric="minisblack")
    weights = (copy.results / "model" / "repaired.safetensors").read_bytes()
    copy.run()
    for stage in ("deskew", "features"):
        assert copy.computed(stage, "series") == FRAMES + 1
        assert copy.computed(stage, "single") == FRAMES
    assert copy.computed("segment", "single") == FRAMES
    assert (copy.results / "model" / "repaired.safetensors").read_bytes() == weights


def test_a_touched_frame_is_not_computed_again(copy: Project) -> None:
    sorted((copy.folder / "raw" / "series").glob("*.tif"))[2].touch()
    before = (copy.results / "series" / "ledger" / "features.jsonl").read_text()
    copy.run()
    assert (copy.results / "series" / "ledger" / "features.jsonl").read_text() == before


def test_a_movie_that_grew_costs_its_new_frames(copy: Project) -> None:
    # Detection is calibrated on the first frames, of which this short movie would get more.
    copy.set("segment", temporal_reach_frames=0, calibration_frames=FRAMES)
    copy.run()
    before = {stage: copy.computed(stage, "series") for stage in ("deskew", "features", "segment")}
    frames = sorted((copy.folder / "raw" / "series").glob("*.tif"))
    for number in (FRAMES, FRAMES + 1):
        shutil.copy(frames[1], frames[0].with_name(frames[0].name.replace("stack0000", f"stack{number:04}")))
    copy.run()
    for stage, frames_before in before.items():
        assert copy.computed(stage, "series") == frames_before + 2
    assert zarr.open_array(copy.results / "series" / "labels.ome.zarr" / "0", mode="r").shape[0] == FRAMES + 2


def test_an_added_movie_costs_only_itself(copy: Project) -> None:
    shutil.copytree(copy.folder / "raw" / "series", copy.folder / "raw" / "third")
    rows = copy.rows()
    rows.loc[len(rows)] = rows.iloc[0].to_dict() | {
        "movie": "third",
        "path": "raw/third/*.tif",
        "train": "no",
    }
    copy.write_rows(rows)
    before = {p: p.stat().st_mtime_ns for p in (copy.results / "series").rglob("*") if p.is_file()}
    weights = (copy.results / "model" / "repaired.safetensors").read_bytes()
    copy.run()
    assert (copy.results / "third" / "tracks.csv").exists()
    assert {p: p.stat().st_mtime_ns for p in before} == before
    assert (copy.results / "model" / "repaired.safetensors").read_bytes() == weights
    assert (copy.results / "third" / "tracks.csv").read_bytes() == (
        copy.results / "series" / "tracks.csv"
    ).read_bytes()


def test_a_human_decision_wins_and_is_kept(copy: Project) -> None:
    decisions = copy.results / "qc" / "decisions.tsv"
    edited = decisions.read_text().replace(
        "single\tauto\t\t\t", "single\treject\tKim\t2026-05-01\tout of focus"
    )
    decisions.write_text(edited)
    copy.run()
    assert decisions.read_text() == edited
    summary = pd.read_csv(copy.results / "summary.tsv", sep="\t").set_index("movie")
    assert summary.loc["single", "verdict"] == "reject"
    assert "out of focus" in (copy.results / "summary.html").read_text()
    forced = jobs(copy, "--forceall")
    assert forced["register"] == 2
    assert {forced[stage] for stage in ("deskew", "features", "segment", "track", "report")} == {1}


def test_with_every_movie_rejected_the_summary_says_why(copy: Project) -> None:
    decisions = copy.results / "qc" / "decisions.tsv"
    decisions.write_text(decisions.read_text().replace("auto\t\t\t", "reject\tKim\t2026-05-01\tdust"))
    copy.run()
    summary = pd.read_csv(copy.results / "summary.tsv", sep="\t").set_index("movie")
    assert set(summary["verdict"]) == {"reject"}
    assert set(summary["reason"]) == {"dust"}
    assert "dust" in (copy.results / "summary.html").read_text()
    assert jobs(copy) == {}


def test_a_run_that_reviews_nothing_plans_nothing_more(fresh: Project) -> None:
    done = fresh.run("--until", "register")
    assert "Reviewed" not in done.stdout
    assert (fresh.results / "series" / "movie.json").exists()
    assert not (fresh.results / ".running.json").exists()


def test_a_review_that_was_lost_is_made_again(copy: Project) -> None:
    (copy.results / "qc" / "metrics.tsv").unlink()
    assert jobs(copy) == {"review": 1}


def test_weights_that_are_none_stop_before_anything_runs(copy: Project) -> None:
    for path in ("movies.tsv", "absent.safetensors", "results/model/repaired.safetensors"):
        copy.set("model", source="file", file=path)
        done = copy.run(check=False)
        assert done.returncode != 0
        assert "model" in done.stdout
        assert "Traceback" not in done.stdout
        assert (copy.results / "model" / "repaired.safetensors").exists()
