"""Link the particles of one movie into tracks and events."""

from spatialdino_core.movies.record import MovieRecord
from spatialdino_core.track.parameters import TrackParameters
from spatialdino_core.track.stage import track_movie
from workflow_scripts.arguments import Arguments, run


def main(a: Arguments) -> None:
    parameters = a.section("track", TrackParameters)
    record = MovieRecord.read(a.movie_record)
    track_movie(record, a.labels, a.objects, a.tracks, a.events, a.about, parameters)


if __name__ == "__main__":
    run(main, __doc__, "movie_record", "labels", "objects", "tracks", "events", "about")
