"""What the report of the model that is there says of how it was made."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from spatialdino_core.files import read_json


@dataclass(frozen=True)
class MadeModel:
    """How the model that is there was made."""

    source: str
    key: str


def made_model(weights: str, report: str) -> MadeModel | None:
    """What the report of a model says; None without a model."""
    if not Path(weights).exists() or not Path(report).exists():
        return None
    content = read_json(report)
    # Reports of earlier releases do not say it.
    trained = Path(weights).with_name("pretrained.safetensors").exists()
    return MadeModel(content.get("source", "train" if trained else "bundled"), content.get("key", ""))
