"""Measure the first frame of one movie and draw its maximum projections."""

from spatialdino_core.movies.record import MovieRecord
from spatialdino_core.movies.sheet import read_sheet
from spatialdino_core.quality.stage import preview_movie
from workflow_scripts.arguments import Arguments, run


def main(a: Arguments) -> None:
    record = MovieRecord.read(a.record)
    skip_bad = a.settings["on_bad_frame"] == "skip"
    preview_movie(read_sheet(a.sheet)[record.movie], record, a.measures, a.picture, skip_bad=skip_bad)


if __name__ == "__main__":
    run(main, __doc__, "sheet", "record", "measures", "picture")
