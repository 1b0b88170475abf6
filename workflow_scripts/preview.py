"""Measure a few frames of one movie and draw the first and the last."""

from spatialdino_core.movies.parameters import ReadingParameters
from spatialdino_core.movies.record import MovieRecord
from spatialdino_core.movies.sheet import read_sheet
from spatialdino_core.quality.preview import preview_movie
from workflow_scripts.arguments import Arguments, run


def main(a: Arguments) -> None:
    record = MovieRecord.read(a.record)
    skip_bad = a.settings["on_bad_frame"] == "skip"
    rows = read_sheet(a.sheet)[record.movie]
    reading = a.section("reading", ReadingParameters)
    how = {"frames": int(a.frames), "skip_bad": skip_bad, "state": a.state}
    preview_movie(rows, record, a.measures, a.picture, reading, **how)


if __name__ == "__main__":
    run(main, __doc__, "sheet", "record", "frames", "state", "measures", "picture")
