"""Measure a few frames of one movie and draw the first and the last."""

from spatialdino_core.files import read_json
from spatialdino_core.movies.acquisition import AcquisitionTable
from spatialdino_core.movies.record import MovieRecord
from spatialdino_core.movies.sheet import read_sheet
from spatialdino_core.optics import OpticsParameters
from spatialdino_core.quality.preview import preview_movie
from workflow_scripts.arguments import Arguments, run


def main(a: Arguments) -> None:
    record = MovieRecord.read(a.record)
    skip_bad = a.settings["on_bad_frame"] == "skip"
    rows = read_sheet(a.sheet)[record.movie]
    table = AcquisitionTable.read(a.table)
    how = {
        "optics": a.section("optics", OpticsParameters),
        "frames": int(a.frames),
        "skip_bad": skip_bad,
        "state": a.state,
    }
    preview_movie(rows, record, table, a.measures, a.picture, **how)
    problem = read_json(a.measures)["problem"]
    if problem and problem != record.problem:
        print(problem)


if __name__ == "__main__":
    run(main, __doc__, "sheet", "record", "table", "frames", "state", "measures", "picture")
