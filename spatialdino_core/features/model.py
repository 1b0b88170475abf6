"""Finish a model: repair the encoder if it has defects, fit its feature basis, publish both as one file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from spatialdino_core.crops.shards import CropShards, OnCorrupt
from spatialdino_core.device import choose_device
from spatialdino_core.encoder.contract import check_basis, check_crops
from spatialdino_core.encoder.weights import load_encoder, save_encoder, weights_hash
from spatialdino_core.features.basis import fit_basis
from spatialdino_core.files import write_json
from spatialdino_core.movies.provenance import software
from spatialdino_core.sinder.parameters import RepairParameters
from spatialdino_core.sinder.repair import repair


def finish_model(
    weights: Path | str,
    shards: Sequence[str],
    output: Path | str,
    report: Path | str,
    parameters: RepairParameters,
    *,
    seed: int,
    device: str,
    key: str,
    source: str,
    on_corrupt_shard: OnCorrupt = "fail",
) -> None:
    """Make weights ready for features.

    Parameters
    ----------
    weights
        Encoder to start from.
    shards
        Shard indices of the training movies. Without any (bundled weights, or a file without
        training movies) the weights are taken as they are and must carry their own basis.
    output, report
        Weights and JSON report to publish.
    key
        Digest of the choices that the model was made from; it goes into the report.
    source
        Where the weights come from: ``train``, ``bundled`` or ``file``; it goes into the report.
    on_corrupt_shard
        Whether a damaged shard ends the repair (``fail``) or is left out (``skip``).

    Raises
    ------
    BadInputError
        If the weights have no basis and there is no crop to fit one on, or the crops are not what they were
        trained on.
    """
    encoder, header, extra = load_encoder(Path(weights))
    encoder.eval()
    found: dict[str, object] = {
        "key": key,
        "source": source,
        "weights": weights_hash(Path(weights)),
        "diagnosed": False,
    }
    if shards:
        crops = CropShards(shards, on_corrupt=on_corrupt_shard, channels=header.architecture.channels)
        check_crops(header, crops.abouts, weights)
        encoder, outcome = repair(encoder, crops, parameters, choose_device(device), seed)
        extra = dict(extra) | fit_basis(encoder.eval(), crops, min(header.field_of_view_voxels))
        found |= {"diagnosed": True, **asdict(outcome)}
    else:
        check_basis(Path(weights))
    provenance = dict(header.provenance) | {"repair": found, "finished_by": software("repair")}
    save_encoder(Path(output), encoder, replace(header, provenance=provenance), extra)
    write_json(report, found | software("repair"))
