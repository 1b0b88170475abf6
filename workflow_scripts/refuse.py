"""End with the problem that register or preview found, so that a bad movie shows as one failed job."""

from spatialdino_core.files import write_json
from spatialdino_core.movies.record import MovieRecord
from spatialdino_core.quality.preview import check_preview
from workflow_scripts.arguments import Arguments, run


def main(a: Arguments) -> None:
    record = MovieRecord.read(a.record)
    record.usable()
    check_preview(a.preview)
    write_json(a.output, {"movie": record.movie})


if __name__ == "__main__":
    run(main, __doc__, "record", "preview", "output")
