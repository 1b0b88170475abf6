"""Extract dense features, activation and foreground probability of one movie."""

from spatialdino_core.features.parameters import FeatureParameters
from spatialdino_core.movies.part import Part
from workflow_scripts.arguments import Arguments, run


def main(a: Arguments) -> None:
    parameters = a.section("features", FeatureParameters)
    if reason := unused(a, parameters):
        from spatialdino_core.features.unused import leave_features_out

        print(f"Features are left out: {reason}.")
        leave_features_out(a.deskewed, a.output, reason, Part.parse(a.frames))
        return
    from spatialdino_core.features.stage import extract_features  # it loads torch

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


def unused(a: Arguments, parameters: FeatureParameters) -> str:
    """Why the movie goes without features; empty if it does not."""
    if parameters.use == "never":
        return "features.use is 'never'"
    if parameters.use == "always":
        return ""
    from spatialdino_core.segment.parameters import SegmentParameters
    from spatialdino_core.segment.stage import calibrate_movie

    segment = a.section("segment", SegmentParameters)
    expected = calibrate_movie(a.deskewed, a.output, segment, version=a.segment_version).evidence.expected_f1
    if expected < parameters.enough_f1:
        return ""
    return f"detection is expected to reach an F1 score of {expected:.3f} without them"


if __name__ == "__main__":
    run(main, __doc__, "deskewed", "weights", "output", "version", "segment_version", "frames")
