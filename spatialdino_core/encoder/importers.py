"""Foreign weights to a weights file of this workflow, once, by hand.

python -m spatialdino_core.encoder.importers SOURCE --out FILE --voxel-um X [options]

Strict: the architecture is inferred from the tensors, each tensor must find its place, and nothing is left
at random; otherwise the import fails and names what is missing or unexpected. The workflow itself reads
its own format only (``weights.py``).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import NoReturn

import torch
from pydantic import ValidationError
from safetensors.torch import load_file
from torch import Tensor

from spatialdino_core.crops.parameters import NormalisationParameters
from spatialdino_core.encoder.conversion import convert
from spatialdino_core.encoder.header import WeightsHeader
from spatialdino_core.encoder.layouts import read_foreign
from spatialdino_core.encoder.parameters import ImportParameters
from spatialdino_core.encoder.weights import save_encoder
from spatialdino_core.errors import BadInputError
from spatialdino_core.movies.provenance import software
from spatialdino_core.parameters import parameters_json, problems_of


def import_weights(source: Path | str, output: Path | str, parameters: ImportParameters) -> WeightsHeader:
    """Convert a file of foreign weights and publish it in this workflow's format.

    Parameters
    ----------
    source
        ``.safetensors``, or a file of ``torch.save`` that holds tensors only.
    output
        Weights file to write.

    Returns
    -------
    WeightsHeader
        What the file says about itself; its provenance says where it comes from and what was left out.

    Raises
    ------
    BadInputError
        If the file cannot be read safely, is of no known layout, or does not fit its own architecture to
        the last tensor.
    """
    source, output = Path(source), Path(output)
    tensors = read_tensors(source)
    _check_output(output, source)
    try:
        foreign = read_foreign(tensors, source)
        encoder, side, notes = convert(foreign, parameters, source)
    except (RuntimeError, LookupError, TypeError, ArithmeticError) as error:
        raise BadInputError(
            source,
            found=f"tensors whose shapes do not go together ({_line(error)})",
            expected="those of one encoder",
            remedy="Give the file as it was published, unchanged.",
        ) from error
    header = WeightsHeader(
        architecture=encoder.architecture,
        voxel_um=(parameters.voxel_um,) * 3,
        normalisation=asdict(NormalisationParameters(tail_fraction=parameters.tail_fraction)),
        field_of_view_voxels=(side,) * 3,
        provenance={
            "imported": {
                "file": source.name,
                "sha256": _sha256(source),
                "kind": foreign.kind,
                "notes": notes,
                "parameters": json.loads(parameters_json(parameters)),
            },
            **software(),
        },
    )
    try:
        save_encoder(output, encoder, header)
    except OSError as error:
        _refuse_output(output, f"a place that cannot be written to ({error.strerror or error})")
    return header


def _check_output(output: Path, source: Path) -> None:
    """Refuse to write over a folder, or over what is read."""
    try:
        if output.is_dir():
            _refuse_output(output, "a folder")
        if output.exists() and output.samefile(source):
            _refuse_output(output, "the file that is to be imported")
    except OSError as error:
        _refuse_output(output, f"a place that cannot be looked at ({error.strerror or error})")


def _refuse_output(output: Path, found: str) -> NoReturn:
    raise BadInputError(
        f"--out {output}",
        found=found,
        expected="a new file, in a folder that can be written to",
        remedy="Name another one; its ending is .safetensors by custom.",
    )


def read_tensors(source: Path) -> dict[str, Tensor]:
    """Tensors by name, without running any code that the file may contain.

    Of a training checkpoint with a part ``model``, that part.

    Raises
    ------
    BadInputError
        If the file is missing, damaged, or holds more than tensors.
    """
    try:
        if source.suffix == ".safetensors":
            return load_file(source)
        content = torch.load(source, map_location="cpu", weights_only=True)
    except Exception as error:  # of a file that is none of torch, anything
        raise BadInputError(
            source,
            found=f"a file that cannot be read safely ({_line(error)})",
            expected="safetensors, or a torch file that holds tensors only",
            remedy="Give the bare encoder (backbone.pth), not a checkpoint that contains Python objects.",
        ) from error
    if isinstance(content, dict) and isinstance(content.get("model"), dict):
        content = content["model"]
    whole = isinstance(content, dict) and all(isinstance(value, Tensor) for value in content.values())
    if not whole or not all(isinstance(name, str) for name in content):
        held = "tensors without names" if whole else "more than tensors"
        raise BadInputError(
            source,
            found=f"{type(content).__name__} that holds {held}",
            expected="a dictionary of tensors by name",
            remedy="Give the file of the bare encoder (backbone), as it was published.",
        )
    return content


def _line(error: Exception) -> str:
    return (str(error) or repr(error)).splitlines()[0]


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def main(arguments: Sequence[str] | None = None) -> int:
    """Import a file and print what became of it; returns 1 after a message where that is impossible."""
    parser = argparse.ArgumentParser(
        prog="spatialdino_core.encoder.importers",
        description="Convert weights of SpatialDINO, DINOv2 or DINOv3 to this workflow's format.",
    )
    parser.add_argument("source", type=Path, help="published weights (.pth or .safetensors)")
    parser.add_argument("--out", type=Path, required=True, help="weights file to write (.safetensors)")
    add = parser.add_argument
    add("--voxel-um", type=float, required=True, help="voxel size at which it will see movies (µm)")
    add("--field-of-view-voxels", type=int, help="side of a window (default: of its positions, or 112)")
    add("--patch-voxels", type=int, help="patch that a 2D encoder gets (default: 8)")
    add("--heads", type=int, help="attention heads (default: 64 features each)")
    add("--positions", choices=("none", "learned", "rope"), help="if the file does not tell, or to drop them")
    add("--rope-base", type=float, help="base of rotations that the file does not store")
    add("--test-time-registers", type=int, default=0, help="zero registers to add (published SpatialDINO: 1)")
    tail = NormalisationParameters().tail_fraction
    add("--tail-fraction", type=float, default=tail, help="voxels clipped at each end")
    add("--image-mean", type=float, nargs="+", help="what a 2D encoder expects (default: of ImageNet)")
    add("--image-std", type=float, nargs="+", help="what it expects (default: of ImageNet)")
    given = vars(parser.parse_args(arguments))
    source, output = given.pop("source"), given.pop("out")
    try:
        header = import_weights(source, output, ImportParameters(**given))
    except ValidationError as error:
        found, expected = problems_of(error)
        print(f"command line: found {found}; expected {expected}.", file=sys.stderr)
        return 1
    except BadInputError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{output}: {header.provenance['imported']['kind']}, {header.architecture}")
    for note in header.provenance["imported"]["notes"]:
        print(f"- {note}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
