"""Register one movie: geometry, frames, shape; problems are recorded for the review."""

from dataclasses import replace
from pathlib import Path

from spatialdino_core.movies.parameters import ReadingParameters
from spatialdino_core.movies.raw_files import nearest
from spatialdino_core.movies.register import register_movie
from spatialdino_core.movies.sheet import read_sheet
from workflow_scripts.arguments import Arguments, run


def main(a: Arguments) -> None:
    rows = read_sheet(a.sheet)[a.movie]
    record, table = register_movie(rows, a.section("reading", ReadingParameters), a.settings["on_bad_frame"])
    # Whoever reads it later finds the files, however the sheet came to them.
    stacks = {
        place: tuple(replace(piece, file=Path(nearest(piece.file))) for piece in pieces)
        for place, pieces in table.stacks.items()
    }
    unused = {nearest(file): reason for file, reason in table.unused.items()}
    replace(table, stacks=stacks, unused=unused).write(a.table, record.skipped)
    record.write(a.output)
    for warning in record.warnings:
        print(f"{a.movie}: WARNING: {warning}")
    print(record.problem or f"{a.movie}: {record.frames} frames of {record.shape_zyx} voxels, {record.dtype}")


if __name__ == "__main__":
    run(main, __doc__, "sheet", "movie", "output", "table")
