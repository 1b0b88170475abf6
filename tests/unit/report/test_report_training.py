"""The training section of the summary: alarms and their meaning, figures, provenance, pictures."""

from __future__ import annotations

import base64
import xml.etree.ElementTree as ET
from pathlib import Path

import pandas as pd
import pytest
import torch
from PIL import Image

from spatialdino_core.encoder.header import WeightsHeader
from spatialdino_core.encoder.parameters import EncoderParameters
from spatialdino_core.encoder.vit import build_encoder
from spatialdino_core.encoder.weights import save_encoder
from spatialdino_core.pretrain.alarms import MEANINGS
from spatialdino_core.report.summary import summarise


@pytest.fixture
def metrics(tmp_path: Path) -> Path:
    """A training of 40 steps in which one alarm came and went, and another came and stayed."""
    folder = tmp_path / "model"
    folder.mkdir()
    alarms = ["", "point-collapse:class", "dimensional-collapse:patch", "dimensional-collapse:patch"]
    table = {"step": [10, 20, 30, 40], "dino_loss": [5.0, 4.0, 3.5, 3.25], "uniform_loss": 4.852}
    pd.DataFrame(table | {"alarms": alarms}).to_csv(folder / "metrics.csv", index=False)
    return folder / "metrics.csv"


def section(tmp_path: Path, training: Path | None) -> ET.Element | None:
    standings = {"a": ["reject", "dark", "automatic"]}
    summarise(standings, [], None, tmp_path / "summary.html", tmp_path / "summary.tsv", training)
    page = ET.fromstring((tmp_path / "summary.html").read_text(encoding="utf-8"))
    return next((each for each in page.iter("section") if each.get("id") == "training"), None)


def words(element: ET.Element) -> str:
    return " ".join(" ".join(element.itertext()).split())


def test_a_model_that_was_not_trained_here_has_no_such_section(tmp_path: Path) -> None:
    assert section(tmp_path, None) is None


def test_alarms_are_told_with_their_times_and_meanings(tmp_path: Path, metrics: Path) -> None:
    found = section(tmp_path, metrics)
    assert found is not None
    assert [words(item) for item in found.iter("li")] == [
        f"dimensional-collapse of patch tokens, from step 30 to the end. {MEANINGS['dimensional-collapse']}",
        f"point-collapse of class tokens, steps 20 to 20. {MEANINGS['point-collapse']}",
    ]
    assert "DINO loss (nats) 3.25" in words(found)
    assert not list(found.iter("img"))


def test_a_quiet_training_says_so(tmp_path: Path, metrics: Path) -> None:
    pd.read_csv(metrics).assign(alarms="").to_csv(metrics, index=False)
    found = section(tmp_path, metrics)
    assert found is not None
    assert "no alarm was up at any time" in words(found)
    assert not list(found.iter("li"))


def test_what_lies_beside_the_table_is_shown(tmp_path: Path, metrics: Path) -> None:
    for name, colour in (("pretrain.png", "red"), ("held_out.png", "blue")):
        Image.new("RGB", (3, 2), colour).save(metrics.with_name(name))
    probes = {
        "step": [20, 40],
        "probe_auroc": [0.7, 0.875],
        "intensity_auroc": 0.61,
        "voxels_auroc": [0.5, None],
    }
    pd.DataFrame(probes).to_csv(metrics.with_name("held_out.csv"), index=False)
    architecture = EncoderParameters(
        embed_dim=8, depth=2, heads=1, patch_voxels=4, layer_scale=1.0, drop_path=0.0
    )
    header = WeightsHeader(
        architecture=architecture,
        voxel_um=(0.104, 0.104, 0.104),
        normalisation={},
        field_of_view_voxels=(8, 8, 8),
        provenance={
            "movies": [{"movie": "cell_1"}, {"movie": "cell_2"}],
            "held_out_movies": ["cell_3"],
            "commit": "abc123",
            "pretrain": {"recipe": {"steps": 40, "batch_size": 24}, "seed": 7, "crops": 384},
        },
    )
    encoder = build_encoder(architecture, torch.Generator().manual_seed(0))
    save_encoder(metrics.with_name("pretrained.safetensors"), encoder, header)
    found = section(tmp_path, metrics)
    assert found is not None
    told = words(found)
    for said in (
        "patch tokens 0.875",
        "mean, standard deviation and maximum of intensity 0.61",
        "all voxels 0.5",
        "2 blocks, 8 features, 1 head, patches of 4 voxels",
        "trained on 2 movies cell_1, cell_2",
        "only looked at cell_3",
        "crops 384",
        "steps 40 of 24 crops",
        "seed 7",
        "commit abc123",
    ):
        assert said in told
    shown = [base64.b64decode(image.attrib["src"].split(",")[1]) for image in found.iter("img")]
    assert shown == [metrics.with_name(name).read_bytes() for name in ("pretrain.png", "held_out.png")]


def test_a_training_without_a_row_yet_is_no_error(tmp_path: Path, metrics: Path) -> None:
    metrics.write_text("")
    assert section(tmp_path, metrics) is not None
