"""Register one movie: geometry, frames, shape; problems are recorded for the review."""

from spatialdino_core.movies.parameters import ReadingParameters
from spatialdino_core.movies.register import register_movie
from spatialdino_core.movies.sheet import read_sheet
from workflow_scripts.arguments import Arguments, run


def main(a: Arguments) -> None:
    rows = read_sheet(a.sheet)[a.movie]
    record, table = register_movie(rows, a.section("reading", ReadingParameters), a.settings["on_bad_frame"])
    table.write(a.table, record.skipped)
    record.write(a.output)
    for warning in record.warnings:
        print(f"{a.movie}: WARNING: {warning}")
    print(record.problem or f"{a.movie}: {record.frames} frames of {record.shape_zyx} voxels, {record.dtype}")


if __name__ == "__main__":
    run(main, __doc__, "sheet", "movie", "output", "table")
