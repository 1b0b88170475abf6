"""Pretrain the encoder on the shards of all training movies."""

from spatialdino_core.crops.parameters import NormalisationParameters
from spatialdino_core.encoder.parameters import EncoderParameters
from spatialdino_core.pretrain.parameters import PretrainParameters
from spatialdino_core.pretrain.stage import pretrain_model
from workflow_scripts.arguments import Arguments, run


def main(a: Arguments) -> list[str]:
    pretrain_model(
        a.shard_lists(),
        a.output,
        a.section("pretrain", PretrainParameters),
        a.section("encoder", EncoderParameters),
        a.section("normalisation", NormalisationParameters),
        seed=a.settings["seed"],
        device=a.settings["device"],
        version=a.name,
        on_corrupt_shard=a.settings["crops"]["on_corrupt_shard"],
    )
    return a.shard_lists()


if __name__ == "__main__":
    run(main, __doc__, "shards", "movies*", "output", "name")
