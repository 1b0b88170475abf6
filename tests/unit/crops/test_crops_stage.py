"""The stage: what a deskewed movie becomes, with any number of workers, and for any movie."""

import json
import shutil
from dataclasses import asdict

import numpy as np
import pytest
import torch

from spatialdino_core.crops import stage
from spatialdino_core.crops.bounds import movie_bounds
from spatialdino_core.crops.normalise import FrameBounds, bounds_of, normalise
from spatialdino_core.crops.parameters import CropParameters, NormalisationParameters
from spatialdino_core.crops.resample import resample_isotropic
from spatialdino_core.crops.shards import CropShards
from spatialdino_core.crops.stage import shard_movie
from spatialdino_core.errors import BadInputError
from spatialdino_core.geometry.deskewed import DeskewedMovie

VOXEL_UM = (0.25, 0.104, 0.104)
PARAMETERS = CropParameters(
    crop_voxels=8, crops_per_frame=3, frames_per_movie=3, low_percentile=99, high_percentile=99.99
)
NORMALISATION = NormalisationParameters()


def frames(number=4, channels=1, shape=(12, 40, 44), seed=0):
    """Background and some bright boxes; each channel and frame is brighter than the one before."""
    generator = np.random.default_rng(seed)
    found = []
    for frame in range(number):
        counts = generator.normal(100, 5, (channels, *shape))
        for channel in range(channels):
            for z, y, x in ((3, 10, 10), (6, 30, 12), (8, 20, 35)):
                counts[channel, z : z + 2, y : y + 5, x : x + 5] += 300 * (channel + 1) + 40 * frame
        found.append(np.rint(counts).astype(np.uint16))
    return found


def shard(record, parameters=PARAMETERS, normalisation=NORMALISATION, seed=0, folder="shards", **settings):
    index = record.parent.parent / folder / record.parent.name / "index.json"
    shard_movie(record, index, parameters, normalisation, seed, **settings)
    return index


def facts(index):
    """What the samples say of themselves, in order."""
    import webdataset

    paths = sorted(map(str, index.parent.glob("shard-*.tar")))
    return [json.loads(sample["json"]) for sample in webdataset.WebDataset(paths, shardshuffle=False)]


def test_crops_are_boxes_of_the_normalised_isotropic_frames(movie):
    stacks = frames()
    record = movie(stacks)
    index = shard(record)
    bounds = bounds_of([stacks[0]], NORMALISATION)
    samples = facts(index)
    assert [about["frame"] for about in samples] == [0] * 3 + [2] * 3 + [3] * 3
    for about, crop in zip(samples, CropShards([index]), strict=True):
        assert about["movie"] == "cell-1"
        assert about["channels"] == ["488nm"]
        assert about["voxel_um"] == [0.104] * 3
        assert about["bounds"] == [asdict(bounds)]
        volume = resample_isotropic(normalise(stacks[about["frame"]][0], bounds), VOXEL_UM, 0.104)
        box = tuple(
            slice(o, o + n) for o, n in zip(about["origin_voxels"], about["shape_voxels"], strict=True)
        )
        assert np.array_equal(crop[0], volume[box].astype(np.float16))
    content = json.loads(index.read_text())["about"]
    assert content["voxel_um"] == [0.104] * 3
    assert content["bounds"] == {"488nm": asdict(bounds)}


def test_bytes_do_not_depend_on_workers_and_resume_at_the_shard(movie, monkeypatch):
    record = movie(frames())
    small = CropParameters(**(asdict(PARAMETERS) | {"shard_mb": 0.03072}))
    whole = shard(record, small)
    files = {path.name: path.read_bytes() for path in whole.parent.iterdir()}
    assert len(files) > 3
    parallel = shard(record, small, folder="parallel", workers=2)
    assert {path.name: path.read_bytes() for path in parallel.parent.iterdir()} == files

    cut = stage._Cutter.cut
    cut_frames = []

    def killed_at_the_last(self, frame):
        cut_frames.append(frame)
        if frame == 3:
            raise KeyboardInterrupt
        return cut(self, frame)

    monkeypatch.setattr(stage._Cutter, "cut", killed_at_the_last)
    with pytest.raises(KeyboardInterrupt):
        shard(record, small, folder="killed")
    monkeypatch.setattr(
        stage._Cutter, "cut", lambda self, frame: cut_frames.append(frame) or cut(self, frame)
    )
    cut_frames.clear()
    resumed = shard(record, small, folder="killed")
    assert cut_frames != [0, 2, 3], "frames in finished shards are not cut again"
    assert cut_frames[-1] == 3
    assert {path.name: path.read_bytes() for path in resumed.parent.iterdir()} == files


def test_the_seed_counts(movie):
    record = movie(frames())
    first = CropShards([shard(record, seed=0, folder="a")]).content_hash
    assert CropShards([shard(record, seed=0, folder="b")]).content_hash == first
    assert CropShards([shard(record, seed=1, folder="c")]).content_hash != first


@pytest.mark.parametrize("mode", ["single", "average", "random"])
def test_channels(movie, mode):
    stacks = frames(channels=2)
    record = movie(stacks, channels=("488nm", "560nm"))
    chosen = CropParameters(
        **(asdict(PARAMETERS) | {"channels": mode, "channel": 1 if mode == "single" else 0})
    )
    index = shard(record, chosen)
    scales = [bounds_of([stacks[0][channel]], NORMALISATION) for channel in (0, 1)]
    volumes = [
        resample_isotropic(normalise(stacks[0][channel], scales[channel]), VOXEL_UM, 0.104)
        for channel in (0, 1)
    ]
    expected = {"single": volumes[1:], "average": [np.mean(volumes, axis=0)], "random": volumes}[mode]
    about, crop = facts(index)[0], CropShards([index])[0]
    assert len(crop) == len(expected)
    assert about["channels"] == (["560nm"] if mode == "single" else ["488nm", "560nm"])
    assert about["bounds"] == [asdict(scale) for scale in (scales[1:] if mode == "single" else scales)]
    box = tuple(slice(o, o + n) for o, n in zip(about["origin_voxels"], about["shape_voxels"], strict=True))
    for found, volume in zip(crop, expected, strict=True):
        assert np.array_equal(found, volume[box].astype(np.float16))


def test_a_channel_that_is_not_there(movie):
    with pytest.raises(BadInputError, match=r"crops\.channel.*'cell-1' has 1 channel"):
        shard(movie(frames()), CropParameters(channel=1))


def test_bounds_rest_on_the_first_frames_of_each_channel(movie):
    stacks = frames(channels=2)
    record = movie(stacks, channels=("488nm", "560nm"))
    loaded = DeskewedMovie(record)
    for channel in (0, 1):
        assert movie_bounds(loaded, NORMALISATION, channel) == bounds_of([stacks[0][channel]], NORMALISATION)
    two = NormalisationParameters(calibration_frames=2)
    assert movie_bounds(loaded, two) == bounds_of([stack[0] for stack in stacks[:2]], two)
    shutil.rmtree(loaded.store.path)
    assert movie_bounds(loaded, two) == bounds_of([stack[0] for stack in stacks[:2]], two), "kept"


def test_scales_of_a_frame_and_of_all_movies(movie):
    stacks = frames()
    record = movie(stacks)
    own = movie_bounds(DeskewedMovie(record), NormalisationParameters(scale="frame"))
    assert isinstance(own, FrameBounds)
    index = shard(record, normalisation=NormalisationParameters(scale="frame"), folder="frame")
    assert [about["bounds"] for about in facts(index)[::3]] == [
        [asdict(bounds_of([stacks[frame][0]], NORMALISATION))] for frame in (0, 2, 3)
    ]
    common = NormalisationParameters(scale="global", low_counts=80, high_counts=900)
    index = shard(record, normalisation=common, folder="global")
    assert facts(index)[0]["bounds"] == [{"low": 80, "high": 900}]


UNUSUAL = {
    "zeros": np.zeros((1, 12, 40, 44), np.uint16),
    "constant": np.full((1, 12, 40, 44), 300, np.uint16),
    "saturated": np.full((1, 12, 40, 44), 65535, np.uint16),
    "smaller than a crop": frames(1, shape=(2, 5, 6))[0],
    "one plane": frames(1, shape=(1, 40, 44))[0],
}


@pytest.mark.parametrize("name", UNUSUAL)
def test_unusual_movies_of_one_frame_give_crops_of_finite_values(movie, name, capsys):
    index = shard(movie([UNUSUAL[name]]))
    shards = CropShards([index])
    assert len(shards) == 3
    for crop in shards:
        assert min(crop.shape[1:]) >= 8
        assert np.isfinite(crop).all()
        assert crop.min() >= 0
        assert crop.max() <= 1
    if name in ("zeros", "constant", "saturated"):
        assert {about["placed_on"] for about in facts(index)} == {"uniform"}
        assert "shard cell-1: too little signal" in capsys.readouterr().out


def test_a_movie_without_frames(movie):
    record = movie(frames(1))
    content = json.loads(record.read_text()) | {"checksums": {}}
    record.write_text(json.dumps(content))
    with pytest.raises(BadInputError):
        shard(record)


def width_um(volume, voxel_um):
    """Standard deviation of a bright ball along z, y and x, µm."""
    weights = np.clip(volume - 0.02, 0, None).astype(float)
    found = []
    for axis in range(3):
        profile = weights.sum(axis=tuple(a for a in range(3) if a != axis))
        at = np.arange(len(profile)) * voxel_um
        centre = (profile * at).sum() / profile.sum()
        found.append(np.sqrt((profile * (at - centre) ** 2).sum() / profile.sum()))
    return np.array(found)


def ball(shape, voxel_um):
    """A Gaussian of 0.6 µm around (5, 5, 5) µm."""
    at = np.meshgrid(*(np.arange(n) * v for n, v in zip(shape, voxel_um, strict=True)), indexing="ij")
    return np.exp(-sum((a - 5) ** 2 for a in at) / (2 * 0.6**2))


def test_training_and_inference_see_the_same_physical_voxels(movie, tmp_path, monkeypatch):
    """A ball of 0.6 µm in voxels of 0.25 × 0.104 × 0.104 µm is as wide in all axes in a training crop and
    in the volume that the encoder is given: the anisotropy is undone in both, and once."""
    from spatialdino_core.encoder.header import WeightsHeader
    from spatialdino_core.encoder.parameters import EncoderParameters
    from spatialdino_core.encoder.vit import build_encoder
    from spatialdino_core.encoder.weights import save_encoder
    from spatialdino_core.features import encoding
    from spatialdino_core.features import stage as features
    from spatialdino_core.features.parameters import FeatureParameters
    from spatialdino_core.pretrain.stage import _common_voxel

    stack = 100 + 5000 * ball((40, 96, 96), VOXEL_UM)
    record = movie([np.rint(stack[None]).astype(np.uint16)])
    truth = width_um(ball((97, 97, 97), (0.104,) * 3), 0.104)
    wide = CropParameters(
        crop_voxels=80, min_size_fraction=0, max_size_fraction=0, crops_per_frame=1, frames_per_movie=1
    )
    crops = CropShards([shard(record, wide)])
    voxel_um = _common_voxel(crops)
    in_training = width_um(crops[0][0], voxel_um)

    seen = []

    class SeenError(Exception):
        pass

    def see(encoder, volume, *args, **kwargs):
        seen.append(volume[0].numpy())
        raise SeenError

    monkeypatch.setattr(encoding, "encode_windows", see)
    architecture = EncoderParameters(embed_dim=6, depth=1, heads=1, layer_scale=1.0, drop_path=0.0)
    encoder = build_encoder(architecture, torch.Generator().manual_seed(0))
    header = WeightsHeader(
        architecture=architecture,
        voxel_um=(voxel_um,) * 3,
        normalisation=asdict(NORMALISATION),
        field_of_view_voxels=(32, 32, 32),
        provenance={},
    )
    basis = {
        "pca.mean": torch.zeros(6),
        "pca.components": torch.eye(6),
        "pca.explained_variance": torch.ones(6) / 6,
    }
    save_encoder(tmp_path / "weights.safetensors", encoder, header, basis)
    with pytest.raises(SeenError):
        features.extract_features(
            record,
            tmp_path / "weights.safetensors",
            record.parent / "features.json",
            FeatureParameters(),
            device="cpu",
            version="",
        )
    in_inference = width_um(seen[0], header.voxel_um[0])
    for found in (in_training, in_inference):
        assert found == pytest.approx(truth, rel=0.05)
    assert in_training == pytest.approx(in_inference, rel=0.02)
