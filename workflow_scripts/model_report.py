"""What the report of the model that is there says of how it was made."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from spatialdino_core.encoder.header import read_header
from spatialdino_core.errors import BadInputError
from spatialdino_core.files import sound_json


@dataclass(frozen=True)
class MadeModel:
    """How the model that is there was made."""

    source: str
    key: str


def made_model(weights: str, report: str) -> MadeModel | None:
    """What the report of a model says; None without a model, or where one of the two is damaged."""
    content = sound_json(report)
    try:
        read_header(Path(weights))
    except (OSError, BadInputError):
        return None
    if not content:
        return None
    # Reports of earlier releases do not say it.
    trained = Path(weights).with_name("pretrained.safetensors").exists()
    return MadeModel(content.get("source", "train" if trained else "bundled"), content.get("key", ""))
