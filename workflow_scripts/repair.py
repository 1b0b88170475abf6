"""Diagnose and repair singular defects of the encoder; fit the feature basis; publish the model."""

from spatialdino_core.features.model import finish_model
from spatialdino_core.sinder.parameters import RepairParameters
from workflow_scripts.arguments import Arguments, run


def main(a: Arguments) -> list[str]:
    finish_model(
        a.weights,
        a.shard_lists(),
        a.output,
        a.report,
        a.section("repair", RepairParameters),
        seed=a.settings["seed"],
        device=a.settings["device"],
        key=a.key,
        source=a.source,
        on_corrupt_shard=a.settings["crops"]["on_corrupt_shard"],
    )
    return a.shard_lists()


if __name__ == "__main__":
    run(main, __doc__, "weights", "shards", "movies*", "output", "report", "key", "source")
