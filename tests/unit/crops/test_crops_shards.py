"""Shards: what goes in comes out, by random access and by WebDataset's own reader, byte for byte the same."""

import errno
import io
import json
import resource
import subprocess
import sys
import tarfile

import numpy as np
import pytest
import webdataset

from spatialdino_core.crops.shards import Crop, CropShards, write_shards
from spatialdino_core.errors import BadInputError

SHARD_BYTES = 20_480  # three of these crops of 6,144 bytes, and the end of the file


def crops(number=5, movie="cell-1", shape=(1, 16, 16, 8)):
    generator = np.random.default_rng(0)
    for index in range(number):
        values = generator.random(shape).astype(np.float16)
        yield Crop(
            f"{movie}-{index:04}", values, {"movie": movie, "frame": index, "origin_voxels": [1, 2, 3]}
        )


def write(folder, number=5, shard_bytes=SHARD_BYTES, source=crops, **about):
    write_shards(
        folder,
        lambda start: list(source(number))[start:],
        shard_bytes=shard_bytes,
        about={"movie": "cell-1"} | about,
    )
    return folder / "index.json"


def names(folder):
    return {path.name for path in folder.iterdir()}


def shards_of(folder):
    return {path.name: path.read_bytes() for path in folder.glob("shard-*.tar")}


def test_random_access_returns_what_was_written(tmp_path):
    shards = CropShards([write(tmp_path / "a"), write(tmp_path / "b", number=2)])
    assert len(shards) == 7
    assert sum(shards.shard_lengths) == 7
    expected = [*crops(5), *crops(2)]
    for index in (6, 0, 3, 5):
        assert shards[index].dtype == np.float16
        assert np.array_equal(shards[index], expected[index].values.astype(np.float32))
    assert [about["movie"] for about in shards.abouts] == ["cell-1"] * 2
    with pytest.raises(IndexError):
        shards[7]


def test_crops_of_any_shape_and_of_some_channels(tmp_path):
    def mixed(number):
        for index in range(number):
            yield Crop(f"c-{index}", np.full((3, 4 + index, 5, 6), index / 8), {})

    index = write(tmp_path, 6, source=mixed)
    shards = CropShards([index])
    assert [shards[n].shape for n in range(6)] == [(3, 4 + n, 5, 6) for n in range(6)]
    assert all((shards[n] == n / 8).all() for n in range(6))
    long = [Crop("x" * 120, np.zeros((1, 20, 20, 20)), {})] * 2
    write_shards(tmp_path / "long", lambda start: long[start:], shard_bytes=40_960, about={})
    assert max(path.stat().st_size for path in (tmp_path / "long").glob("*.tar")) <= 40_960
    assert CropShards([index], channels=1)[2].shape == (1, 6, 5, 6)


def test_webdataset_reads_the_shards(tmp_path):
    write(tmp_path)
    paths = sorted(map(str, tmp_path.glob("shard-*.tar")))
    assert len(paths) > 1
    assert [path[-16:] for path in paths] == [f"shard-{n:06}.tar" for n in range(len(paths))]
    samples = list(webdataset.WebDataset(paths, shardshuffle=False))
    assert [sample["__key__"] for sample in samples] == [crop.key for crop in crops()]
    for sample, crop in zip(samples, crops(), strict=True):
        assert np.array_equal(np.load(io.BytesIO(sample["crop.npy"]), allow_pickle=False), crop.values)
        assert json.loads(sample["json"]) == crop.about


@pytest.mark.parametrize("shard_bytes", [10_240, 20_480, 30_000, 45_000, 1e6])
def test_shards_are_as_full_as_fits(tmp_path, shard_bytes):
    """Judged by the files: none is too large, and none could have held the next one's first crop."""
    write(tmp_path, number=20, shard_bytes=shard_bytes)
    files = sorted(tmp_path.glob("shard-*.tar"))
    assert max(path.stat().st_size for path in files) <= shard_bytes
    ends = []
    for path in files:
        with tarfile.open(path) as tar:
            ends.append(max(m.offset_data + -(-m.size // 512) * 512 for m in tar))
    one = (512 + 4608) + (512 + 512)
    usable = shard_bytes // 10_240 * 10_240 - 1024  # a tar file ends in two empty blocks, in whole records
    assert all(end + one > usable for end in ends[:-1])
    assert sum(CropShards([tmp_path / "index.json"]).shard_lengths) == 20


def test_a_crop_larger_than_a_shard_has_one_of_its_own(tmp_path):
    write(tmp_path, number=3, shard_bytes=100)
    assert CropShards([tmp_path / "index.json"]).shard_lengths == [1, 1, 1]


def test_the_index_tells_sizes_and_checksums(tmp_path):
    content = json.loads(write(tmp_path).read_text())
    assert [shard["bytes"] for shard in content["shards"]] == [
        (tmp_path / shard["name"]).stat().st_size for shard in content["shards"]
    ]
    assert sum(shard["crops"] for shard in content["shards"]) == 5
    for sample, crop in zip(content["samples"], crops(), strict=True):
        raw = (tmp_path / sample["shard"]).read_bytes()[sample["offset"] :]
        assert raw.startswith(crop.values.tobytes())


def test_equal_crops_give_equal_files(tmp_path):
    for folder in ("a", "b"):
        write(tmp_path / folder)
    for first in sorted((tmp_path / "a").iterdir()):
        assert first.read_bytes() == (tmp_path / "b" / first.name).read_bytes()


def test_the_fingerprint_follows_the_voxels(tmp_path):
    whole = CropShards([write(tmp_path / "a")]).content_hash
    assert CropShards([write(tmp_path / "b", shard_bytes=1e9)]).content_hash == whole
    assert CropShards([write(tmp_path / "c", number=4)]).content_hash != whole


def test_fewer_crops_leave_no_old_shard(tmp_path):
    write(tmp_path, number=5)
    write(tmp_path, number=1)
    assert names(tmp_path) == {"index.json", "shard-000000.tar"}


def killed_after(number):
    """Crops that end with an exception, as the work on them may."""

    def source(_):
        yield from crops(number)
        raise RuntimeError("killed")

    return source


class Asked:
    """Crops from a number on; remembers the numbers."""

    def __init__(self, source=crops, number=5):
        self.source, self.number, self.starts = source, number, []

    def __call__(self, start):
        self.starts.append(start)
        for index, crop in enumerate(self.source(self.number)):
            if index >= start:
                yield crop


def test_a_killed_attempt_leaves_whole_shards_and_is_gone_on_with(tmp_path):
    write(tmp_path / "whole")
    folder = tmp_path / "killed"
    killed = Asked(killed_after(4))
    with pytest.raises(RuntimeError, match="killed"):
        write_shards(folder, killed, shard_bytes=SHARD_BYTES, about={"movie": "cell-1"})
    assert not (folder / "index.json").exists()
    left = shards_of(folder)
    assert left
    assert all(name.startswith(("shard-", "written")) for name in names(folder))
    resumed = Asked()
    write_shards(folder, resumed, shard_bytes=SHARD_BYTES, about={"movie": "cell-1"})
    assert resumed.starts[0] > 0, "finished shards are not made again"
    assert shards_of(folder) == shards_of(tmp_path / "whole")
    assert names(folder) == names(tmp_path / "whole")
    assert (folder / "index.json").read_bytes() == (tmp_path / "whole" / "index.json").read_bytes()


@pytest.mark.parametrize("harm", ["other settings", "shard lost", "shard cut", "line torn"])
def test_what_a_killed_attempt_left_is_only_used_if_it_is_sound(tmp_path, harm):
    with pytest.raises(RuntimeError):
        write_shards(tmp_path, Asked(killed_after(4)), shard_bytes=SHARD_BYTES, about={"movie": "cell-1"})
    first, ledger = tmp_path / "shard-000000.tar", tmp_path / "written.jsonl"
    about = {"movie": "cell-1"}
    if harm == "other settings":
        about = {"movie": "cell-2"}
    elif harm == "shard lost":
        first.unlink()
    elif harm == "shard cut":
        first.write_bytes(first.read_bytes()[:-100])
    else:
        ledger.write_text(ledger.read_text()[:40])
    asked = Asked()
    write_shards(tmp_path, asked, shard_bytes=SHARD_BYTES, about=about)
    assert asked.starts == [0]
    assert len(CropShards([tmp_path / "index.json"])) == 5


def test_crops_are_written_as_they_come(tmp_path):
    """A whole shard of large crops would not fit into memory."""
    written = []

    def watched(_):
        for crop in crops(5):
            written.append(max((path.stat().st_size for path in tmp_path.glob(".shard-*")), default=0))
            yield Crop(crop.key, np.zeros((1, 64, 64, 64), np.float16), crop.about)

    write_shards(tmp_path, watched, shard_bytes=1e9, about={})
    assert written[1] < written[3] < written[4]


FULL_DISK = """
import resource, sys, numpy as np
from spatialdino_core.crops.shards import Crop, write_shards
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
small, large = np.zeros((1, 20, 20, 20)), np.zeros((1, 80, 80, 80))
crops = [Crop("a", small, {}), Crop("b", large, {})]
write_shards(sys.argv[1], lambda start: crops[start:], shard_bytes=1e5, about={})
"""


def test_a_full_disk_leaves_no_partial_shard(tmp_path):
    """Files of this process may not grow beyond 300 kB: the second crop needs 1 MB."""
    done = subprocess.run([sys.executable, "-c", FULL_DISK, tmp_path], capture_output=True, text=True)
    assert "BadInputError" in done.stderr
    assert "shard-000001.tar: found no room to write it" in done.stderr
    assert "0.1 MB on this disk" in done.stderr
    assert names(tmp_path) == {"shard-000000.tar", "written.jsonl"}
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 300_000


def test_other_errors_of_the_disk_are_not_hidden(tmp_path, monkeypatch):
    def failing(*args, **kwargs):
        raise OSError(errno.EIO, "bad sector")

    monkeypatch.setattr(webdataset.TarWriter, "write", failing)
    with pytest.raises(OSError, match="bad sector"):
        write(tmp_path)
    assert "index.json" not in names(tmp_path)


def damage(path, how):
    if how == "lost":
        path.unlink()
        return
    content = bytearray(path.read_bytes())
    if how == "cut":
        del content[700:]
    else:
        content[1600] ^= 1
    path.write_bytes(content)


MESSAGES = {"lost": "no such file", "cut": "700 bytes instead of", "one bit": "checksum"}


@pytest.mark.parametrize("how", MESSAGES)
def test_damaged_shards_are_refused_by_name(tmp_path, how):
    index = write(tmp_path)
    damage(tmp_path / "shard-000001.tar", how)
    with pytest.raises(BadInputError, match=rf"shard-000001\.tar.*{MESSAGES[how]}.*Delete .*index\.json"):
        CropShards([index])


@pytest.mark.parametrize("how", MESSAGES)
def test_damaged_shards_can_be_left_out_and_are_counted(tmp_path, how, capsys):
    index, other = (
        write(tmp_path / "a"),
        write(tmp_path / "b"),
    )
    whole = CropShards([index, other])
    assert capsys.readouterr().err == ""
    lengths = whole.shard_lengths
    damage(tmp_path / "a" / "shard-000001.tar", how)
    shards = CropShards([index, other], on_corrupt="skip")
    assert shards.shard_lengths == [lengths[0], *lengths[2:]]
    assert len(shards) == sum(shards.shard_lengths)
    kept = [n for n in range(len(whole)) if not lengths[0] <= n < lengths[0] + lengths[1]]
    for number, original in enumerate(kept):
        assert np.array_equal(shards[number], list(crops())[original % 5].values.astype(np.float32))
    logged = capsys.readouterr().err
    assert f"1 of {len(lengths)} shards are damaged, {lengths[1]} of 10 crops" in logged
    assert "a/shard-000001.tar" in logged
    assert MESSAGES[how] in logged
    assert shards.content_hash != whole.content_hash
