"""Shards: what goes in comes out, by random access and by WebDataset's own reader, byte for byte the same."""

import io
import json

import numpy as np
import pytest
import webdataset

from spatialdino_core.crops.shards import Crop, CropShards, write_shards
from spatialdino_core.errors import BadInputError


def crops(number=5, movie="cell-1"):
    generator = np.random.default_rng(0)
    for index in range(number):
        values = generator.random((1, 6, 5, 4)).astype(np.float16)
        yield Crop(
            f"{movie}-{index:04}", values, {"movie": movie, "frame": index, "origin_voxels": [1, 2, 3]}
        )


def write(folder, number=5, shard_crops=2, **about):
    write_shards(folder, crops(number), shard_crops=shard_crops, about={"movie": "cell-1"} | about)
    return folder / "index.json"


def test_random_access_returns_what_was_written(tmp_path):
    shards = CropShards([write(tmp_path / "a"), write(tmp_path / "b", number=2)])
    assert len(shards) == 7
    expected = [*crops(5), *crops(2)]
    for index in (6, 0, 3, 5):
        assert shards[index].dtype == np.float32
        assert np.array_equal(shards[index], expected[index].values.astype(np.float32))
    assert [about["movie"] for about in shards.abouts] == ["cell-1"] * 2
    with pytest.raises(IndexError):
        shards[7]


def test_webdataset_reads_the_shards(tmp_path):
    write(tmp_path)
    paths = sorted(map(str, tmp_path.glob("shard-*.tar")))
    assert [path[-16:] for path in paths] == [f"shard-{n:06}.tar" for n in range(3)]
    samples = list(webdataset.WebDataset(paths, shardshuffle=False))
    assert [sample["__key__"] for sample in samples] == [crop.key for crop in crops()]
    for sample, crop in zip(samples, crops(), strict=True):
        assert np.array_equal(np.load(io.BytesIO(sample["crop.npy"])), crop.values)
        assert json.loads(sample["json"]) == crop.about


def test_equal_crops_give_equal_files(tmp_path):
    for folder in ("a", "b"):
        write(tmp_path / folder)
    for first in sorted((tmp_path / "a").iterdir()):
        assert first.read_bytes() == (tmp_path / "b" / first.name).read_bytes()


def test_the_fingerprint_follows_the_voxels(tmp_path):
    whole = CropShards([write(tmp_path / "a")]).content_hash
    assert CropShards([write(tmp_path / "b", shard_crops=99)]).content_hash == whole
    assert CropShards([write(tmp_path / "c", number=4)]).content_hash != whole


def test_fewer_crops_leave_no_old_shard(tmp_path):
    write(tmp_path, number=5)
    write(tmp_path, number=1)
    assert {path.name for path in tmp_path.iterdir()} == {"index.json", "shard-000000.tar"}


def test_an_attempt_that_fails_leaves_no_index_and_no_half_shard(tmp_path):
    write(tmp_path)

    def failing():
        yield from crops(3)
        raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        write_shards(tmp_path, failing(), shard_crops=2, about={})
    assert not (tmp_path / "index.json").exists()
    assert all(path.name.startswith("shard-") for path in tmp_path.iterdir())


def test_crops_are_written_as_they_come(tmp_path):
    """A whole shard of large crops would not fit into memory."""
    written = []

    def watched():
        for crop in crops(4):
            written.append(max((path.stat().st_size for path in tmp_path.glob(".shard-*")), default=0))
            yield Crop(crop.key, np.zeros((1, 64, 64, 64), np.float16), crop.about)

    write_shards(tmp_path, watched(), shard_crops=4, about={})
    assert written[0] < written[2] < written[3]


def test_damaged_shards_are_refused(tmp_path):
    index = write(tmp_path)
    shard = tmp_path / "shard-000001.tar"
    whole = shard.read_bytes()
    shard.write_bytes(whole[:700])
    with pytest.raises(BadInputError, match=r"shard-000001\.tar.*700 bytes"):
        CropShards([index])
    shard.unlink()
    with pytest.raises(BadInputError, match="no such file"):
        CropShards([index])
