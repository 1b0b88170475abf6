"""Deskew one movie, frame by frame."""

from dataclasses import asdict
from pathlib import Path

from spatialdino_core.geometry.parameters import DeskewParameters
from spatialdino_core.geometry.stage import deskew_movie
from spatialdino_core.movies.acquisition import AcquisitionTable
from spatialdino_core.movies.part import Part
from spatialdino_core.movies.record import MovieRecord
from spatialdino_core.movies.sheet import read_sheet
from spatialdino_core.needs import check_disk, movie_shape
from workflow_scripts.arguments import Arguments, run


def main(a: Arguments) -> None:
    record = MovieRecord.read(a.movie_record)
    rows = read_sheet(a.sheet)[record.movie]
    deskew = a.section("deskew", DeskewParameters)
    shape = movie_shape(asdict(record), deskew, rows[0].roi_um)
    check_disk(record.movie, Path(a.output).parent, shape, tiff=deskew.tiff)
    deskew_movie(
        rows,
        record,
        AcquisitionTable.read(a.table),
        a.output,
        deskew,
        device=a.settings["device"],
        version=a.version,
        skip_bad=a.settings["on_bad_frame"] == "skip",
        threads=int(a.threads),
        part=Part.parse(a.frames),
        preview=a.preview,
        verify=a.settings["verify"],
    )


if __name__ == "__main__":
    run(main, __doc__, "sheet", "movie_record", "table", "preview", "output", "version", "threads", "frames")
