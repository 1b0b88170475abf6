"""Cut crops out of one training movie into WebDataset shards."""

from spatialdino_core.crops.parameters import CropParameters, NormalisationParameters
from spatialdino_core.crops.stage import shard_movie
from workflow_scripts.arguments import Arguments, run


def main(a: Arguments) -> None:
    crops = a.section("crops", CropParameters)
    normalisation = a.section("normalisation", NormalisationParameters)
    shard_movie(a.deskewed, a.index, crops, normalisation, a.settings["seed"], version=a.version)


if __name__ == "__main__":
    run(main, __doc__, "deskewed", "index", "version")
