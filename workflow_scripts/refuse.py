"""End with the problem that the register found, so that a bad movie shows as one failed job."""

from spatialdino_core.files import write_json
from spatialdino_core.movies.record import MovieRecord
from workflow_scripts.arguments import Arguments, run


def main(a: Arguments) -> None:
    record = MovieRecord.read(a.record)
    record.usable()
    write_json(a.output, {"movie": record.movie})


if __name__ == "__main__":
    run(main, __doc__, "record", "output")
