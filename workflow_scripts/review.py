"""Judge all movies and draw the contact sheet; add new movies to the user's decisions."""

from spatialdino_core.quality.parameters import QualityParameters
from spatialdino_core.quality.review import review_movies
from workflow_scripts.arguments import Arguments, run


def main(a: Arguments) -> None:
    judged = dict(pair.split("=") for pair in a.judged.split(","))
    parameters = a.section("quality", QualityParameters)
    review_movies(a.records, a.measures, judged, parameters, a.metrics, a.metrics_by_channel, a.contact_sheet)


if __name__ == "__main__":
    run(main, __doc__, "records*", "measures*", "judged", "metrics", "metrics_by_channel", "contact_sheet")
