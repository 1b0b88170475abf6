"""Draw the summary of all movies."""

from pathlib import Path

from spatialdino_core.movies.sheet import read_sheet
from spatialdino_core.quality.decisions import standings
from spatialdino_core.report.summary import summarise
from workflow_scripts.arguments import Arguments, run


def main(a: Arguments) -> list[str]:
    # Thousands of reasons and paths would not fit on a command line.
    movies = read_sheet(a.sheet)
    stand = {m: s for m, s in standings(Path(a.results, "qc")).items() if m in movies}
    tracks = [Path(a.results, m, "tracks.csv") for m, s in stand.items() if s.goes_on]
    shown = {m: (s.verdict, s.reason, s.decided_by) for m, s in stand.items()}
    # A decision that was made meanwhile is for the next run.
    tracks = [path for path in tracks if path.exists()]
    repair, training = _first(a.repair), _first(a.training)
    # Times are shown, not depended on: a benchmark that is written again changes no science.
    summarise(shown, tracks, repair, a.page, a.table, training, Path(a.results, "benchmarks"))
    return [str(path.with_name(name)) for path in tracks for name in ("tracks.csv", "report.html")]


def _first(paths: list[str]) -> str | None:
    return next(iter(paths), None)


if __name__ == "__main__":
    run(main, __doc__, "sheet", "results", "repair*", "training*", "page", "table")
