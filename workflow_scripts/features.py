"""Extract dense features, activation and foreground probability of one movie."""

from spatialdino_core.features.parameters import FeatureParameters
from spatialdino_core.features.stage import extract_features
from spatialdino_core.movies.part import Part
from workflow_scripts.arguments import Arguments, run


def main(a: Arguments) -> None:
    parameters = a.section("features", FeatureParameters)
    extract_features(
        a.deskewed,
        a.weights,
        a.output,
        parameters,
        device=a.settings["device"],
        version=a.version,
        part=Part.parse(a.frames),
        verify=a.settings["verify"],
    )


if __name__ == "__main__":
    run(main, __doc__, "deskewed", "weights", "output", "version", "frames")
