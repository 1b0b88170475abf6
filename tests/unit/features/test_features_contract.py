"""What was trained is what is encoded: from crops over weights to features; what is refused on the way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from spatialdino_core.crops.normalise import bounds_of, normalise
from spatialdino_core.crops.parameters import CropParameters, NormalisationParameters
from spatialdino_core.crops.stage import shard_movie
from spatialdino_core.encoder.contract import entering, trained_images
from spatialdino_core.encoder.header import read_header
from spatialdino_core.encoder.parameters import EncoderParameters
from spatialdino_core.encoder.weights import load_encoder, save_encoder
from spatialdino_core.errors import BadInputError
from spatialdino_core.features.encoding import Model, MovieEncoder
from spatialdino_core.features.model import finish_model
from spatialdino_core.features.parameters import FeatureParameters
from spatialdino_core.geometry.deskewed import DeskewedMovie
from spatialdino_core.pretrain.stage import pretrain_model
from spatialdino_core.sinder.parameters import RepairParameters
from tests.unit.features.conftest import Make, frames
from tests.unit.pretrain.small import small_recipe

CROPS = CropParameters(crop_voxels=16, min_size_fraction=0, max_size_fraction=0, frames_per_movie=1)
SCALE = NormalisationParameters()
TWO = [np.stack([stack[0], 900 - stack[1]]) for stack in frames(1, 2, (16, 24, 32))]
"""Bright spots in the first channel, dark ones in the second."""
CPU = torch.device("cpu")
Learn = Callable[..., Path]


@pytest.fixture
def learn(tmp_path: Path) -> Learn:
    """Cuts crops of a movie, trains a tiny encoder on them for a step, gives it a basis; its file."""

    def make(record: Path, crops: CropParameters, channels: int = 1) -> Path:
        index = shard(record, crops, tmp_path)
        architecture = EncoderParameters(embed_dim=12, depth=1, heads=1, patch_voxels=4, channels=channels)
        recipe = small_recipe(
            steps=1, batch_size=2, global_crop_voxels=16, local_crop_voxels=8, warmup_steps=1, prototypes=8
        )
        made = tmp_path / "model" / "pretrained.safetensors"
        pretrain_model([index], made, recipe, architecture, SCALE, seed=0, device="cpu", version="1")
        return finish(made, [index])

    return make


def shard(record: Path, crops: CropParameters, folder: Path, scale: NormalisationParameters = SCALE) -> str:
    index = folder / "shards" / record.parent.name / "index.json"
    shard_movie(record, index, crops, scale, seed=0, version=str(crops) + str(scale))
    return str(index)


def finish(weights: Path, indices: list[str]) -> Path:
    finished = weights.with_name("repaired.safetensors")
    settings = RepairParameters(max_crops=2, batch_size=1, min_outlier_rate=0.9)
    report = finished.with_suffix(".json")
    finish_model(weights, indices, finished, report, settings, seed=0, device="cpu", key="", source="file")
    return finished


def shown(record: Path, weights: Path, **settings: str) -> np.ndarray:
    """The volume that the encoder sees of the first frame."""
    movie = DeskewedMovie(record)
    return MovieEncoder(movie, Model(weights, FeatureParameters(**settings), CPU)).read(0).volume


def images(stack: np.ndarray) -> list[np.ndarray]:
    """Each channel in [0, 1]."""
    return [normalise(counts, bounds_of([counts], SCALE)) for counts in stack]


def test_another_channel_than_the_trained_one_is_not_encoded(movie: Make, learn: Learn) -> None:
    """Channel 1 was trained on, and channel 0 encoded, without a word."""
    record, turned = movie(TWO), movie([stack[::-1] for stack in TWO], "turned")
    weights = learn(record, replace(CROPS, channel=1))
    assert read_header(weights).channels == (("489nm",),)
    with pytest.raises(BadInputError, match=r"'cell-1': found channel 488nm.*expected 489nm") as refusal:
        shown(record, weights)
    assert "features.channels to any" in refusal.value.remedy
    np.testing.assert_allclose(shown(record, weights, channels="any")[0], images(TWO[0])[0], atol=1e-6)
    with pytest.raises(BadInputError, match="found channel 488nm"):
        shown(turned, weights)  # by its name, whatever it shows


def test_the_trained_channel_is_encoded(movie: Make, learn: Learn) -> None:
    record = movie(TWO)
    weights = learn(record, CROPS)
    assert read_header(weights).channels == (("488nm",),)
    np.testing.assert_allclose(shown(record, weights), [images(TWO[0])[0]], atol=1e-6)


def test_an_average_is_encoded_where_an_average_was_trained(movie: Make, learn: Learn) -> None:
    record, one = movie(TWO), movie([stack[:1] for stack in TWO], "one")
    weights = learn(record, replace(CROPS, channels="average"))
    assert read_header(weights).channels == (("488nm", "489nm"),)
    np.testing.assert_allclose(shown(record, weights), [np.mean(images(TWO[0]), axis=0)], atol=1e-6)
    with pytest.raises(BadInputError, match=r"488nm.*the average of 488nm and 489nm"):
        shown(one, weights)


def test_all_channels_enter_together(movie: Make, learn: Learn) -> None:
    record = movie(TWO)
    weights = learn(record, replace(CROPS, channels="random"), channels=2)
    assert read_header(weights).channels == (("488nm",), ("489nm",))
    np.testing.assert_allclose(shown(record, weights), images(TWO[0]), atol=1e-6)


def test_random_channels_are_each_one_that_was_trained_on(movie: Make, learn: Learn) -> None:
    record = movie(TWO)
    weights = learn(record, replace(CROPS, channels="random"))
    assert read_header(weights).channels == (("488nm",), ("489nm",))
    np.testing.assert_allclose(shown(record, weights), [images(TWO[0])[0]], atol=1e-6)


def test_weights_of_any_channel_encode_the_first(movie: Make, weights: Make) -> None:
    """The bundled encoder, imported ones, and those of earlier releases."""
    record = movie(TWO)
    path = weights(window=16)
    assert read_header(path).channels == ()
    np.testing.assert_allclose(shown(record, path), [images(TWO[0])[0]], atol=1e-6)


def test_crops_for_a_basis_are_those_of_the_weights(movie: Make, learn: Learn, tmp_path: Path) -> None:
    """Voxels, intensities and channels of crops against the file's; each remedy is tried."""
    record = movie(TWO)
    path = tmp_path / "other.safetensors"
    encoder, header, _ = load_encoder(learn(record, CROPS))
    scale = NormalisationParameters(scale="global", low_counts=50.0, high_counts=700.0)
    own = replace(header, voxel_um=(0.2,) * 3, normalisation=vars(scale) | {}, channels=(("489nm",),))
    save_encoder(path, encoder, own)
    small = replace(CROPS, crop_voxels=16, voxel_um=0.2, channel=1)
    for crops, given, message in [
        (replace(small, voxel_um=None), scale, r"0\.2 µm; expected 0\.1 µm.*Set crops\.voxel_um to 0\.2\."),
        (small, SCALE, r"Set 'normalisation: \{scale: global, low_counts: 50.0, high_counts: 700.0\}'"),
        (replace(small, channel=0), scale, "show 488nm; expected 489nm.*crops.channel"),
    ]:
        with pytest.raises(BadInputError, match=message):
            finish(path, [shard(record, crops, tmp_path, given)])
    finished = finish(path, [shard(record, small, tmp_path, scale)])
    assert read_header(finished).channels == (("489nm",),)


def test_names_are_the_same_whatever_their_spelling() -> None:
    found = trained_images({"a": ["488 nm"], "b": ["488"], "c": ["560nm"]}, "single", 1)
    assert found == (("488 nm",), ("560nm",))
    assert entering((("488",), ("GFP",)), 1, ["gfp", "x"], "") == ((0,),)
    assert entering((("488", "560"),), 1, ["560nm", "488nm"], "") == ((0, 1),)
    assert entering((), 1, ["any"], "") == ((0,),)
