"""Names that shells, patterns and command lines take for something else: of movies, folders, results."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.workflow.conftest import Project
from tests.workflow.small_movies import row, write_project, write_series

pytestmark = pytest.mark.workflow
# Every sign that means something to a shell, a glob, a format string or Snakemake.
ODD = "Mäuse & 'Zellen' \"x\" [a] $HOME; `b` (c) %s #1 ~ !"
DATA = f"{ODD} {{1}} {{movie}}\nnew"
RESULTS = f"out {ODD}"
MOVIES = ["-x", "".join(f"movie{n:03}_" for n in range(23))[:200]]


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Two movies with odd names, run to the summary. One file is dated in the future."""
    folder = tmp_path_factory.mktemp("odd") / "pro ject"
    rows = []
    for number, movie in enumerate(MOVIES):
        write_series(folder / DATA / str(number), name="a {frame} 'q'", seed=number)
        rows.append(row(movie, f"{DATA}/{number}/a*.tif"))
    path = next((folder / DATA / "0").iterdir())
    os.utime(path, (4e9, 4e9))
    project = write_project(folder, rows, results=RESULTS)
    project.run()
    return project


def test_odd_names_run_to_the_end(odd: Project) -> None:
    results = odd.folder / RESULTS
    for movie in MOVIES:
        assert (results / movie / "tracks.csv").exists()
        assert (results / movie / "report.html").exists()
    assert sorted(
        line.split("\t")[:2] for line in (results / "summary.tsv").read_text().splitlines()[1:]
    ) == [[movie, "accept"] for movie in sorted(MOVIES)]
    assert {p.name for p in odd.folder.iterdir()} == {
        "movies.tsv",
        "settings.yaml",
        ".snakemake",
        DATA,
        RESULTS,
    }


def test_a_second_run_with_odd_names_has_nothing_to_do(odd: Project) -> None:
    """A file of the future is no reason to compute anything."""
    assert "Nothing to be done" in odd.run("--quiet", "progress").stdout


@pytest.mark.parametrize("results", ["out {1}", "a\nb", "-out"])
def test_results_that_snakemake_cannot_name_are_refused(tmp_path: Path, results: str) -> None:
    write_series(tmp_path / "raw")
    done = write_project(tmp_path, [row("a", "raw/*.tif")], results=results).run("--dry-run", check=False)
    assert done.returncode != 0
    assert "a path without {, }, line breaks" in done.stdout
    assert "Traceback" not in done.stdout
