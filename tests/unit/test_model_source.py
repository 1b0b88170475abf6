"""Where the encoder comes from: every case of the rule in config.yaml, and what is said or refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from spatialdino_core.config import ModelParameters, WorkflowConfig
from spatialdino_core.encoder.weights import load_encoder, save_encoder
from spatialdino_core.errors import BadInputError
from spatialdino_core.model_source import (
    Situation,
    check_channels,
    check_maps,
    check_training,
    check_weights,
    contradictions,
    features_of,
    model_source,
)

MARKED = {"cell_1": 1}
BUNDLED = Path(__file__).resolve().parents[2] / "weights" / "bundled.safetensors"


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
                check_weights(
                    config, model_source(config.model, Situation(marked=MARKED)), Situation(marked=MARKED)
                )
    config = configured(model={"file": str(BUNDLED)})
    now = Situation(marked=MARKED)
    check_weights(config, model_source(config.model, now), now)


def test_crops_for_the_basis_of_a_file_are_as_it_was_trained() -> None:
    """The bundled weights: 0.104 µm, a scale per movie, 1/5000 clipped. Each remedy is tried."""
    file, now = {"file": str(BUNDLED)}, Situation(marked=MARKED)
    for wrong, right, remedy in [
        ({"crops": {"voxel_um": 0.2}}, {"crops": {"voxel_um": 0.104}}, "Set crops.voxel_um to 0.104."),
        (
            {"normalisation": {"scale": "frame", "tail_fraction": 0.01}},
            {"normalisation": {"scale": "movie", "tail_fraction": 0.0002}},
            "Set 'normalisation: {scale: movie, tail_fraction: 0.0002}'.",
        ),
    ]:
        config = configured(model=file, **wrong)
        with pytest.raises(BadInputError) as refusal:
            check_weights(config, model_source(config.model, now), now)
        assert refusal.value.remedy == remedy
        check_weights(config, model_source(config.model, Situation()), Situation())  # no crops are cut
        config = configured(model=file, **right)
        check_weights(config, model_source(config.model, now), now)


def test_crops_of_pixels_that_are_not_those_of_a_file_are_refused_before_they_are_cut() -> None:
    file = {"file": str(BUNDLED)}
    for sizes, settings, fits in [
        ({"a": 0.104}, {}, True),
        ({"a": 0.108}, {}, False),
        ({"a": 0.104, "b": 0.108}, {}, False),
        ({"a": 0.108}, {"crops": {"voxel_um": 0.104}}, True),
        ({}, {}, True),  # not known yet
    ]:
        config, now = configured(model=file, **settings), Situation(marked={"a": 1, "b": 1}, pixel_um=sizes)
        if fits:
            check_weights(config, model_source(config.model, now), now)
            continue
        with pytest.raises(BadInputError, match=r"weights for voxels of 0\.104 µm") as refusal:
            check_weights(config, model_source(config.model, now), now)
        assert refusal.value.remedy == "Set crops.voxel_um to 0.104."


def test_weights_without_a_basis_need_a_training_movie(tmp_path: Path) -> None:
    encoder, header, _ = load_encoder(BUNDLED)
    save_encoder(tmp_path / "imported.safetensors", encoder, header, {})
    config = configured(model={"file": str(tmp_path / "imported.safetensors")})
    with pytest.raises(BadInputError, match="without a feature basis"):
        check_weights(config, model_source(config.model, Situation()), Situation())
    now = Situation(marked=MARKED)
    check_weights(config, model_source(config.model, now), now)


def test_weights_of_another_program_are_sent_to_the_importer(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(3)}, tmp_path / "backbone.pth")
    safetensors.torch.save_file({"a": torch.zeros(3)}, tmp_path / "hub.safetensors")
    for name in ("backbone.pth", "hub.safetensors"):
        config = configured(model={"file": str(tmp_path / name)})
        with pytest.raises(BadInputError, match=r"python -m spatialdino_core\.encoder\.importers"):
            check_weights(config, model_source(config.model, Situation()), Situation())


@pytest.mark.parametrize(
    ("settings", "asked", "stored"),
    [
        ({}, "component_31", True),
        ({}, "component_32", False),
        ({}, "component_999", False),
        ({"components": 300}, "component_191", True),
        ({"components": 300}, "component_192", False),
        ({"keep": "all"}, "component_0", False),
        ({"keep": "all"}, "foreground", True),
    ],
)
def test_maps_of_what_is_not_stored_are_refused(settings: dict[str, Any], asked: str, stored: bool) -> None:
    config = configured(features={"high_resolution": [asked], **settings})
    features = features_of(config, model_source(config.model, Situation()), Situation(), "", str(BUNDLED))
    assert features == 192
    if stored:
        check_maps(config, features)
    else:
        with pytest.raises(BadInputError, match=f"found {asked}"):
            check_maps(config, features)


def test_the_encoder_that_will_be_has_so_many_features() -> None:
    for settings, now, expected in [
        ({"model": {"file": str(BUNDLED)}}, {}, 192),
        ({"model": {"source": "train"}}, {"marked": MARKED}, 384),
        ({"model": {"source": "train"}, "encoder": {"size": "base"}}, {"marked": MARKED}, 768),
        ({"model": {"source": "train"}, "pretrain": {"start_from": str(BUNDLED)}}, {"marked": MARKED}, 192),
        ({"model": {"source": "train"}}, {"marked": MARKED, "trained": True, "current": True}, 192),
    ]:
        config, situation = configured(**settings), Situation(**now)
        chosen = model_source(config.model, situation)
        assert features_of(config, chosen, situation, str(BUNDLED), "") == expected
    config = configured(features={"components": 5000})
    (said,) = contradictions(config, model_source(config.model, Situation()), Situation(), 192)
    assert "192 are stored" in said
    assert not list(contradictions(configured(), model_source(config.model, Situation()), Situation(), 192))


TWO = ("488nm", "560nm")


def channels_checked(
    movies: dict[str, tuple[str, ...]], made: str = "", now: Situation | None = None, **settings: Any
) -> None:
    config = configured(**({"model": {"source": "train"}} | settings))
    now = now or Situation(marked={movie: len(names) for movie, names in movies.items()})
    check_channels(config, model_source(config.model, now), now, movies, made)


def test_the_tracked_channel_must_be_one_that_is_trained_on() -> None:
    some = Situation(marked={"a": 2})
    with pytest.raises(
        BadInputError, match=r"'a' and 1 more: found channel 488nm.*expected 560nm"
    ) as refusal:
        channels_checked({"a": TWO, "b": TWO, "c": TWO[::-1]}, now=some, crops={"channel": 1})
    for remedy in ("first in the sheet", "crops.channel", "features.channels to any"):
        assert remedy in refusal.value.remedy
    channels_checked({"a": TWO[::-1], "b": ("560", "x")}, crops={"channel": 0})  # the row comes first
    channels_checked({"a": TWO}, crops={"channel": 0})  # this one is trained on
    channels_checked({"a": TWO}, crops={"channel": 1}, features={"channels": "any"})
    channels_checked({"a": TWO, "b": TWO[::-1]}, crops={"channels": "random"})
    channels_checked({"a": TWO, "b": TWO[::-1]}, crops={"channels": "average"})
    with pytest.raises(BadInputError, match=r"found channel 488nm.*average of 488nm and 560nm"):
        channels_checked({"a": TWO, "b": ("488nm",)}, now=some, crops={"channels": "average"})


def test_channels_that_enter_together_are_the_same_in_all_movies() -> None:
    together: dict[str, Any] = {"encoder": {"channels": 2}, "crops": {"channels": "random"}}
    channels_checked({"a": TWO, "b": ("488 nm", "560")}, **together)
    with pytest.raises(BadInputError, match="in the same order"):
        channels_checked({"a": TWO, "b": TWO[::-1]}, **together)
    now = Situation(marked={"a": 2})
    with pytest.raises(BadInputError, match=r"found channel 560nm and 488nm"):
        channels_checked({"a": TWO, "b": TWO[::-1]}, now=now, **together)
    with pytest.raises(BadInputError, match=r"1 channel\(s\)"):
        channels_checked({"a": TWO, "b": TWO[:1]}, now=now, **together)


def test_weights_that_are_there_say_which_channels_they_know(tmp_path: Path) -> None:
    encoder, header, extra = load_encoder(BUNDLED)
    path = str(tmp_path / "own.safetensors")
    save_encoder(Path(path), encoder, replace(header, channels=(("642nm",),)), extra)
    kept = Situation(trained=True)
    for settings in ({"made": path, "now": kept, "model": {}}, {"now": Situation(), "model": {"file": path}}):
        channels_checked({"a": ("642",)}, **settings)
        with pytest.raises(BadInputError, match=r"found channel 488nm.*expected 642nm"):
            channels_checked({"a": ("488nm",)}, **settings)
    channels_checked({"a": TWO}, now=Situation(), model={"source": "bundled"})
    channels_checked({"a": TWO}, now=Situation(), model={"file": str(BUNDLED)})  # they are for any
