"""Movies with odd names and movies that cannot be read: the others go on, and the run says which and why.

All in one run, from the sheet to the summary.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.workflow.conftest import Project
from tests.workflow.small_movies import FAULTS, row, write_project, write_series

pytestmark = pytest.mark.workflow
# Every sign that means something to a shell, a glob, a format string or Snakemake.
ODD = "Mäuse & 'Zellen' \"x\" [a] $HOME; `b` (c) %s #1 ~ !"
DATA = f"{ODD} {{1}} {{movie}}\nnew"
RESULTS = f"out {ODD}"
GOOD = ["-x", "".join(f"movie{n:03}_" for n in range(23))[:200]]

ONLY_VOXELS_SHOW_IT = ["be_dark", "claim_too_much"]


@dataclass
class Run:
    """What a run said, and where."""

    project: Project
    said: str

    @property
    def results(self) -> Path:
        return self.project.folder / RESULTS


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Two good movies, one with a file of the future, and a bad one of each kind; without features."""
    folder = tmp_path_factory.mktemp("odd") / "pro ject"
    rows = []
    for number, movie in enumerate(GOOD):
        write_series(folder / DATA / str(number), name="a {frame} 'q'", seed=number)
        rows.append(row(movie, f"{DATA}/{number}/a*.tif"))
    os.utime(next((folder / DATA / "0").iterdir()), (4e9, 4e9))
    rows += [row(name, f"{DATA}/{name}/{make(folder / DATA / name)}") for name, make in FAULTS.items()]
    project = write_project(folder, rows, results=RESULTS, features={"use": "never"})
    return Run(project, project.run().stdout)


def test_good_movies_run_to_the_end(odd: Run) -> None:
    for movie in GOOD:
        for name in ("deskewed.json", "tracks.csv", "report.html"):
            assert (odd.results / movie / name).exists()
        assert "Not computed: features.use is" in (odd.results / movie / "report.html").read_text()
    assert not (odd.results / "model").exists()
    left = {path.name for path in odd.project.folder.iterdir()}
    assert left == {"movies.tsv", "settings.yaml", ".snakemake", DATA, RESULTS}


def test_bad_movies_are_named_with_the_reason_and_fail_no_job(odd: Run) -> None:
    lines = (odd.results / "summary.tsv").read_text().splitlines()[1:]
    verdicts = {line.split("\t")[0]: line.split("\t")[1:3] for line in lines}
    assert {movie: verdict for movie, (verdict, _) in verdicts.items()} == (
        dict.fromkeys(GOOD, "accept") | dict.fromkeys(FAULTS, "problem")
    )
    listed = odd.said[odd.said.rindex(f"{len(FAULTS)} of {len(FAULTS) + len(GOOD)} movies cannot be used") :]
    for movie in FAULTS:
        reason = verdicts[movie][1]
        assert "found" in reason
        assert f"  {movie}" in listed
        assert reason in listed
        record = json.loads((odd.results / movie / "movie.json").read_text())
        assert record["problem"] is not None or movie in ONLY_VOXELS_SHOW_IT
        assert not (odd.results / movie / "deskewed.json").exists()
    assert "Error in rule" not in odd.said


def test_a_second_run_has_nothing_to_do(odd: Run) -> None:
    """A file of the future is no reason to compute anything, and what is bad is not tried again."""
    said = odd.project.run("--quiet", "progress").stdout
    assert "Nothing to be done" in said
    assert f"{len(FAULTS)} of {len(FAULTS) + len(GOOD)} movies cannot be used" in said


def test_a_bad_movie_is_tried_again_without_its_record(odd: Run) -> None:
    """Not everything that mends a movie shows: a disk that is well again, a package that is installed."""
    (odd.results / "be_text" / "movie.json").unlink()
    lines = odd.project.run("--dry-run", "--quiet", "rules").stdout.splitlines()
    jobs = {line.split()[0]: line.split()[1] for line in lines if len(line.split()) == 2}
    assert {name: jobs.get(name) for name in ("register", "preview", "review")} == {
        "register": "1",
        "preview": "1",
        "review": "1",
    }


@pytest.mark.parametrize("results", ["out {1}", "a\nb", "-out"])
def test_results_that_snakemake_cannot_name_are_refused(tmp_path: Path, results: str) -> None:
    write_series(tmp_path / "raw")
    done = write_project(tmp_path, [row("a", "raw/*.tif")], results=results).run("--dry-run", check=False)
    assert done.returncode != 0
    assert "a path without {, }, line breaks" in done.stdout
    assert "Traceback" not in done.stdout


def test_a_run_without_any_usable_movie_fails(tmp_path: Path) -> None:
    project = write_project(tmp_path, [row("a", "raw/*.tif"), row("b", "raw/b.tif")])
    for _ in range(2):
        done = project.run(check=False)
        assert done.returncode != 0
        assert "2 of 2 movies cannot be used" in done.stdout
        assert "No movie of the sheet can be used" in done.stdout
    assert "no file that matches" in (tmp_path / "results" / "summary.html").read_text()
