"""Register one movie: geometry, frames, shape; problems are recorded for the review."""

from spatialdino_core.movies.register import register_movie
from spatialdino_core.movies.sheet import read_sheet
from workflow_scripts.arguments import Arguments, run


def main(a: Arguments) -> None:
    record = register_movie(read_sheet(a.sheet)[a.movie], a.settings["on_bad_frame"])
    record.write(a.output)
    print(record.problem or f"{a.movie}: {record.frames} frames of {record.shape_zyx} voxels, {record.dtype}")


if __name__ == "__main__":
    run(main, __doc__, "sheet", "movie", "output")
