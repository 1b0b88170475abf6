"""Judge all movies and draw the contact sheet; add new movies to the user's decisions."""

from pathlib import Path

from spatialdino_core.movies.sheet import read_sheet
from spatialdino_core.quality.parameters import QualityParameters
from spatialdino_core.quality.review import review_movies
from workflow_scripts.arguments import Arguments, run


def main(a: Arguments) -> list[str]:
    parameters = a.section("quality", QualityParameters)
    # Thousands of paths would not fit on a command line. Movies that were added meanwhile have no preview.
    previews = [Path(a.previews, f"{movie}.json") for movie in read_sheet(a.sheet)]
    previews = [path for path in previews if path.exists()]
    review_movies(previews, parameters, a.metrics, a.metrics_by_channel, a.contact_sheet, version=a.version)
    return [str(path.with_suffix(suffix)) for path in previews for suffix in (".json", ".png")]


if __name__ == "__main__":
    run(main, __doc__, "sheet", "previews", "version", "metrics", "metrics_by_channel", "contact_sheet")
