"""Draw the report of one movie."""

from spatialdino_core.movies.record import MovieRecord
from spatialdino_core.report.movie import report_movie
from workflow_scripts.arguments import Arguments, run


def main(a: Arguments) -> None:
    report_movie(MovieRecord.read(a.movie_record), a.preview, a.benchmarks, a.output)


if __name__ == "__main__":
    run(main, __doc__, "movie_record", "preview", "benchmarks", "output")
