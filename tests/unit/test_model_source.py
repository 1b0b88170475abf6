"""Where the encoder comes from: every case of the rule in config.yaml, and what is said or refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from spatialdino_core.config import ModelParameters, WorkflowConfig
from spatialdino_core.errors import BadInputError
from spatialdino_core.model_source import (
    Situation,
    check_training,
    check_weights,
    contradictions,
    model_source,
)

MARKED = {"cell_1": 1}


@pytest.mark.parametrize(
    ("model", "now", "source", "why"),
    [
        ({}, {}, "bundled", "no movie is marked"),
        ({}, {"gpu": True}, "bundled", "no movie is marked"),
        ({}, {"marked": MARKED}, "bundled", "no GPU is found"),
        ({}, {"marked": MARKED, "gpu": True}, "train", "there is a GPU"),
        ({}, {"trained": True}, "train", "a trained model is there"),
        ({}, {"trained": True, "marked": MARKED, "gpu": True}, "train", "a trained model is there"),
        ({"file": "mine.safetensors"}, {"trained": True}, "file", "mine.safetensors"),
        ({"source": "train"}, {"marked": MARKED}, "train", "model.source"),
        ({"source": "bundled"}, {"trained": True}, "bundled", "model.source"),
    ],
)
def test_the_source(model: dict[str, str], now: dict[str, Any], source: str, why: str) -> None:
    chosen = model_source(ModelParameters(**model), Situation(**now))
    assert chosen.source == source
    assert why in str(chosen)


def test_a_trained_model_is_kept_unless_training_is_asked_for() -> None:
    now = Situation(marked=MARKED, trained=True, gpu=True)
    assert model_source(ModelParameters(), now).kept
    assert not model_source(ModelParameters(source="train"), now).kept


@pytest.mark.parametrize(
    ("settings", "now", "words"),
    [
        ({}, {}, "no movie with train = yes"),
        ({"crops": {"channel": 1}}, {"marked": MARKED}, "crops.channel = 1"),
        ({"encoder": {"channels": 2}}, {"marked": {"cell_1": 2}}, "encoder.channels"),
    ],
)
def test_what_training_could_not_do_is_refused(
    settings: dict[str, Any], now: dict[str, Any], words: str
) -> None:
    config = configured(model={"source": "train"}, **settings)
    situation = Situation(**now)
    chosen = model_source(config.model, situation)
    with pytest.raises(BadInputError, match=words):
        check_training(config, chosen, situation, "movies.tsv")
    done = Situation(**now, current=True)
    check_training(config, model_source(config.model, done), done, "movies.tsv")


def test_two_channels_may_train_together() -> None:
    config = configured(
        model={"source": "train"}, encoder={"channels": 2}, crops={"channels": "random", "channel": 5}
    )
    now = Situation(marked={"cell_1": 2})
    check_training(config, model_source(config.model, now), now, "movies.tsv")


@pytest.mark.parametrize(
    ("settings", "now", "words"),
    [
        ({"model": {"source": "bundled"}}, {"marked": MARKED}, "none trains"),
        ({"pretrain": {"steps": 7}}, {}, "Settings under pretrain have no effect"),
        ({"crops": {"crop_voxels": 64}, "encoder": {"size": "base"}}, {}, "crops, encoder have no effect"),
        ({}, {"trained": True}, "made with other settings"),
        ({"model": {"source": "train"}}, {"trained": True, "marked": MARKED}, "it is made anew"),
        ({"model": {"source": "bundled"}}, {"trained": True}, "is replaced by the bundled encoder"),
        ({"device": "cuda"}, {}, "no GPU is found"),
        ({}, {"marked": MARKED}, ""),
        ({}, {"trained": True, "current": True}, ""),
        (
            {"model": {"file": "mine.safetensors"}, "repair": {"steps": 3}, "crops": {"crop_voxels": 64}},
            {"marked": MARKED},
            "",
        ),
    ],
)
def test_contradictions_are_said(settings: dict[str, Any], now: dict[str, Any], words: str) -> None:
    config = configured(**settings)
    situation = Situation(**now)
    said = list(contradictions(config, model_source(config.model, situation), situation))
    assert [words in line for line in said] == ([True] if words else [])


def configured(**settings: Any) -> WorkflowConfig:
    return WorkflowConfig(movies="movies.tsv", results="results", **settings)


def test_weights_are_opened_before_the_first_job(tmp_path: Path) -> None:
    for path, words in [
        (tmp_path / "absent.safetensors", "no readable safetensors"),
        (tmp_path, "no readable safetensors"),
        (tmp_path / "text.safetensors", "no readable safetensors"),
        (tmp_path / "results" / "model" / "repaired.safetensors", "which this run itself writes"),
    ]:
        (tmp_path / "text.safetensors").write_text("no weights")
        for settings in (
            {"model": {"file": str(path)}},
            {"model": {"source": "train"}, "pretrain": {"start_from": str(path)}},
        ):
            config = WorkflowConfig(movies="m", results=str(tmp_path / "results"), **settings)
            with pytest.raises(BadInputError, match=words):
                check_weights(config, model_source(config.model, Situation(marked=MARKED)))
    bundled = Path(__file__).resolve().parents[2] / "weights" / "bundled.safetensors"
    config = configured(model={"file": str(bundled)})
    check_weights(config, model_source(config.model, Situation()))
