"""Find and outline the particles of one movie."""

from spatialdino_core.movies.part import Part
from spatialdino_core.segment.parameters import SegmentParameters
from spatialdino_core.segment.stage import segment_movie
from workflow_scripts.arguments import Arguments, run


def main(a: Arguments) -> None:
    parameters = a.section("segment", SegmentParameters)
    segment_movie(
        a.deskewed,
        a.features,
        a.output,
        a.objects,
        parameters,
        device=a.settings["device"],
        version=a.version,
        part=Part.parse(a.frames),
        threads=int(a.threads),
        verify=a.settings["verify"],
    )


if __name__ == "__main__":
    run(main, __doc__, "deskewed", "features", "output", "objects", "version", "threads", "frames")
