"""Bad input: one clear message, before long work where it can be known before, and no harm to others."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile

from tests.workflow.conftest import FRAMES, Project

pytestmark = pytest.mark.workflow


def edit_sheet(column: str, value: str) -> Callable[[Project], None]:
    def edit(project: Project) -> None:
        rows = project.rows()
        rows.loc[0, column] = value
        project.write_rows(rows)

    return edit


def empty_sheet(project: Project) -> None:
    project.write_rows(project.rows().iloc[:0])


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (
            lambda p: p.set("track", max_gap_frame=1),
            ["unknown key 'track.max_gap_frame'", "did you mean 'max_gap_frames'"],
        ),
        (lambda p: p.set("optics", sigma_axial_um=-1), ["optics.sigma_axial_um = -1", "greater than 0"]),
        (edit_sheet("angle_deg", "95"), ["line 2", "angle_deg = '95'", "less than 90"]),
        (edit_sheet("movie", "single"), ["line 3", "a second time"]),
        (empty_sheet, ["the sheet is empty"]),
    ],
)
def test_a_wrong_config_or_sheet_stops_before_anything_runs(
    fresh: Project, harm: Callable[[Project], None], words: list[str]
) -> None:
    harm(fresh)
    done = fresh.run(check=False)
    assert done.returncode != 0
    for word in words:
        assert word in done.stdout
    assert "Traceback" not in done.stdout
    assert not fresh.results.exists()


def frame_file(project: Project, frame: int) -> Path:
    return sorted((project.folder / "raw" / "series").glob("*.tif"))[frame]


def truncate(project: Project) -> None:
    path = frame_file(project, 4)
    path.write_bytes(path.read_bytes()[:-5000])


def remove(project: Project) -> None:
    frame_file(project, 4).unlink()


def reshape(project: Project) -> None:
    path = frame_file(project, 4)
    tifffile.imwrite(path, tifffile.imread(path)[:, :-1], photometric="minisblack")


def blacken(project: Project) -> None:
    path = frame_file(project, 4)
    tifffile.imwrite(path, np.zeros_like(tifffile.imread(path)), photometric="minisblack")


def poison(project: Project) -> None:
    for number in range(FRAMES):
        path = frame_file(project, number)
        stack = tifffile.imread(path).astype(np.float32)
        if number == 4:
            stack[3, 3, 3] = np.nan
        tifffile.imwrite(path, stack, photometric="minisblack")


def lose_all(project: Project) -> None:
    for path in (project.folder / "raw" / "series").glob("*.tif"):
        path.unlink()


BAD_FRAMES = [
    (truncate, "truncated"),
    (remove, "no file for time point 4"),
    (reshape, "as in the others"),
    (blacken, "only zeros"),
    (poison, "1 voxels that are NaN"),
]


# All kinds are tested one by one in tests/unit/movies/test_register.py; here, one that headers show, one that
# only voxels show, and a movie that is gone.
@pytest.mark.parametrize(
    ("harm", "words"), [BAD_FRAMES[0], BAD_FRAMES[3], (lose_all, "no file that matches")]
)
def test_a_bad_movie_is_named_and_the_others_finish(
    copy: Project, harm: Callable[[Project], None], words: str
) -> None:
    """Even the movie that the model was trained on: the model is there."""
    harm(copy)
    copy.set("track", max_gap_frames=1)  # so that the good movie has work to do, too
    tracks = copy.results / "single" / "tracks.csv"
    before = tracks.stat().st_mtime_ns
    done = copy.run()
    assert words in done.stdout[done.stdout.index("1 of 2 movies cannot be used") :]
    assert "Error in rule" not in done.stdout
    assert "Traceback" not in done.stdout
    assert tracks.stat().st_mtime_ns > before


def test_a_movie_that_fails_later_keeps_no_other_from_its_end_and_is_named(copy: Project) -> None:
    """A frame at which the review has not looked."""
    copy.set("quality", frames=1)
    blacken(copy)
    copy.set("track", max_gap_frames=1)
    tracks = copy.results / "single" / "tracks.csv"
    before = tracks.stat().st_mtime_ns
    done = copy.run(check=False)
    assert done.returncode != 0
    assert tracks.stat().st_mtime_ns > before
    listed = done.stdout[done.stdout.index("What went wrong:") :]
    assert "  deskew series  " in listed
    assert "only zeros" in listed


@pytest.mark.parametrize(("harm", "words"), [BAD_FRAMES[4]])
def test_a_bad_frame_can_be_skipped_and_the_gap_is_recorded(
    copy: Project, harm: Callable[[Project], None], words: str
) -> None:
    harm(copy)
    settings = copy.folder / "settings.yaml"
    settings.write_text(settings.read_text() + "on_bad_frame: skip\n")
    copy.run()
    skipped = copy.record("deskewed", "series")["skipped"]
    assert isinstance(skipped, dict)
    assert list(skipped) == ["4"]
    assert words in skipped["4"]
    assert words.split()[0] in (copy.results / "series" / "report.html").read_text()
