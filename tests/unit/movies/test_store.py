"""OME-Zarr stores: valid by an independent model of the standard, one file per frame, whole pyramids."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import zarr
from ome_zarr_models.v05 import Image, ImageLabel

from spatialdino_core.errors import BadInputError
from spatialdino_core.movies.ledger import Entry
from spatialdino_core.movies.part import Part
from spatialdino_core.movies.stage_record import StageRecord
from spatialdino_core.movies.store import SMALLEST_LEVEL, FrameStore, StoreLayout, checksum

LAYOUT = StoreLayout(
    shape_czyx=(2, 20, 50, 210),
    dtype="uint16",
    voxel_um=(0.25, 0.1, 0.1),
    interval_s=2.0,
    channels=("488nm", "560nm"),
)


def frame(seed: int, layout: StoreLayout = LAYOUT) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 60000, layout.shape_czyx).astype(layout.dtype)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    store = FrameStore.prepare(tmp_path / "a.zarr", LAYOUT, 3, {"note": 1})
    sums = [store.write(t, frame(t)) for t in (0, 2)]
    again = FrameStore(tmp_path / "a.zarr")
    assert [again.has(t) for t in range(3)] == [True, False, True]
    np.testing.assert_array_equal(again.read(2, 1), frame(2)[1])
    np.testing.assert_array_equal(
        again.read(2, slice(None), (slice(3, 5), slice(None), slice(7))), frame(2)[:, 3:5, :, :7]
    )
    assert sums == [checksum(frame(0)), checksum(frame(2))]
    assert again.about["note"] == 1
    assert again.voxel_um == LAYOUT.voxel_um


@pytest.mark.parametrize(("kind", "model"), [("image", Image), ("map", Image), ("labels", ImageLabel)])
def test_the_metadata_is_valid_ome_zarr(tmp_path: Path, kind: str, model: type) -> None:
    layout = StoreLayout(**(LAYOUT.__dict__ | {"kind": kind, "dtype": "uint16"}))
    FrameStore.prepare(tmp_path / "a.zarr", layout, 3, {})
    image = model.from_zarr(zarr.open_group(tmp_path / "a.zarr", mode="r"))
    multiscale = image.ome_attributes.multiscales[0]
    assert [axis.name for axis in multiscale.axes] == ["t", "c", "z", "y", "x"]
    assert [axis.unit for axis in multiscale.axes][2:] == ["micrometer"] * 3
    assert multiscale.datasets[0].coordinateTransformations[0].scale == [2.0, 1.0, 0.25, 0.1, 0.1]


@pytest.mark.parametrize(
    "change", [{"interval_s": None}, {"interval_s": 4.0, "channels": ("640nm", "488nm")}]
)
def test_an_interval_and_names_are_rewritten_in_place(tmp_path: Path, change: dict[str, object]) -> None:
    store, other = FrameStore.prepare(tmp_path / "a.zarr", LAYOUT, 2, {}), replace(LAYOUT, **change)
    total, identity = store.write(1, frame(1)), store.identity(1)
    FrameStore.prepare(tmp_path / "a.zarr", other, 2, {})
    FrameStore.prepare(tmp_path / "b.zarr", other, 2, {})
    found, new = ((tmp_path / name / "zarr.json").read_text() for name in ("a.zarr", "b.zarr"))
    assert found == new
    again = FrameStore(tmp_path / "a.zarr")
    assert again.identity(1) == identity
    assert checksum(again.read(1, slice(None))) == total
    # Another voxel size makes other voxels.
    wider = replace(other, voxel_um=(0.3, 0.1, 0.1))
    assert not FrameStore.prepare(tmp_path / "a.zarr", wider, 2, {}).has(1)


def test_one_file_per_frame_channel_and_level(tmp_path: Path) -> None:
    store = FrameStore.prepare(tmp_path / "a.zarr", LAYOUT, 2, {})
    for t in range(2):
        store.write(t, frame(t))
    shards = [p for p in (tmp_path / "a.zarr").rglob("*") if p.is_file() and p.name != "zarr.json"]
    levels = len(LAYOUT.level_factors())
    assert levels >= 2
    assert len(shards) == 2 * 2 * levels


def test_a_frame_of_zeros_counts_as_written(tmp_path: Path) -> None:
    store = FrameStore.prepare(tmp_path / "a.zarr", LAYOUT, 1, {})
    store.write(0, np.zeros(LAYOUT.shape_czyx, np.uint16))
    assert store.has(0)


def write(store: FrameStore, t: int) -> str:
    store.write_class_token(t, np.array([t, 1, 2], np.float32))
    return store.write(t, frame(t))


def recorded(folder: Path) -> tuple[FrameStore, StageRecord, Path]:
    """A store of two frames, the record of the stage that wrote it, and a file of the second."""
    store = FrameStore.prepare(folder / "a.zarr", LAYOUT, 2, {}).with_class_tokens(3)
    entries = []
    for t in range(2):
        total = write(store, t)
        entries.append(Entry(frame=t, key="", stamp="", output=total, stored=[store.identity(t)]))
    return store, StageRecord.of(["a.zarr"], entries, {}), folder / "a.zarr/0/c/1/0/0/0/0"


@pytest.mark.parametrize("name", ["zarr.json", "0/zarr.json", "1/zarr.json", "class_tokens/zarr.json"])
@pytest.mark.parametrize("harm", ["lost", "emptied", "cut short", "of something else"])
def test_lost_and_damaged_metadata_are_refused_by_readers_and_made_again_by_the_writer(
    tmp_path: Path, name: str, harm: str
) -> None:
    _, record, _ = recorded(tmp_path)
    path = tmp_path / "a.zarr" / name
    if harm == "lost":
        path.unlink()
    else:
        whole = path.read_text()
        path.write_text({"emptied": "", "cut short": whole[: len(whole) // 2]}.get(harm, "[1, 2]"))
    with pytest.raises(BadInputError, match=r"a\.zarr: found .*verify=true"):
        FrameStore.recorded(tmp_path, record, 0)
    with pytest.raises(BadInputError, match=r"0-0"):
        FrameStore.prepare(tmp_path / "a.zarr", LAYOUT, 2, {}, Part(0, 1)).with_class_tokens(3, Part(0, 1))
    again = FrameStore.prepare(tmp_path / "a.zarr", LAYOUT, 2, {}).with_class_tokens(3)
    # What is written is what the record says: nothing of a frame that is not written anew counts.
    assert again.identity(0) is None
    write(again, 0)
    assert again.identity(0) == record.stored[0][0]
    np.testing.assert_array_equal(FrameStore(tmp_path / "a.zarr").read(0, 1), frame(0)[1])


def test_an_array_of_other_voxels_is_not_written_to(tmp_path: Path) -> None:
    """Attributes of the group that fit are not enough."""
    FrameStore.prepare(tmp_path / "a.zarr", LAYOUT, 1, {}).write(0, frame(0))
    FrameStore.prepare(tmp_path / "b.zarr", replace(LAYOUT, shape_czyx=(2, 20, 40, 200)), 1, {})
    shutil.copy(tmp_path / "b.zarr/0/zarr.json", tmp_path / "a.zarr/0/zarr.json")
    store = FrameStore.prepare(tmp_path / "a.zarr", LAYOUT, 1, {})
    assert store.shape == (1, *LAYOUT.shape_czyx)
    assert not store.has(0)


def test_metadata_are_brought_to_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flushed: list[Path] = []
    monkeypatch.setattr("spatialdino_core.movies.store.flush", flushed.append)
    store = FrameStore.prepare(tmp_path / "a.zarr", LAYOUT, 1, {}).with_class_tokens(3)
    assert set((tmp_path / "a.zarr").rglob("zarr.json")) <= set(flushed)
    flushed.clear()
    store.set_display([(0, 1)] * 2)
    assert tmp_path / "a.zarr/zarr.json" in flushed


@pytest.mark.parametrize("harm", ["lost", "emptied", "of another frame", "changed"])
@pytest.mark.parametrize("name", ["1/c/FRAME/1/0/0/0", "class_tokens/c/FRAME/0"])
def test_all_that_a_frame_writes_is_watched(tmp_path: Path, name: str, harm: str) -> None:
    store, record, _ = recorded(tmp_path)
    path = tmp_path / "a.zarr" / name.replace("FRAME", "1")
    content = bytearray(path.read_bytes())
    if harm == "lost":
        path.unlink()
    elif harm == "of another frame":
        shutil.copy(tmp_path / "a.zarr" / name.replace("FRAME", "0"), path)
    else:
        content[len(content) // 2] ^= 0xFF
        path.write_bytes(b"" if harm == "emptied" else content)
    as_written = store.identity(1) == record.stored[1][0] and store.is_intact(1)
    assert not as_written
    assert store.identity(0) == record.stored[0][0]
    assert store.is_intact(0)
    if harm != "changed":
        with pytest.raises(BadInputError, match=r"of frame 1.*verify=true"):
            FrameStore.recorded(tmp_path, record, 0)


def test_records_of_before_coarse_levels_were_watched_stay_current(tmp_path: Path) -> None:
    _, record, shard = recorded(tmp_path)
    full = {t: [" ".join(str(kept).split()[:2]) for kept in stored] for t, stored in record.stored.items()}
    FrameStore.recorded(tmp_path, replace(record, stored=full), 0)
    shard.write_bytes(shard.read_bytes()[:-1000])
    with pytest.raises(BadInputError, match="frame 1"):
        FrameStore.recorded(tmp_path, replace(record, stored=full), 0)


@pytest.mark.parametrize("harm", ["lost", "emptied", "cut short", "of another frame", "of another run"])
def test_what_the_stage_did_not_write_is_not_read(tmp_path: Path, harm: str) -> None:
    store, record, shard = recorded(tmp_path)
    FrameStore.recorded(tmp_path, record, 0)
    if harm == "lost":
        shard.unlink()
    elif harm == "of another frame":
        shutil.copy(tmp_path / "a.zarr/0/c/0/0/0/0/0", shard)
    elif harm == "of another run":
        store.write(1, frame(7))
    else:
        shard.write_bytes(b"" if harm == "emptied" else shard.read_bytes()[:-1000])
    with pytest.raises(BadInputError, match=r"of frame 1.*verify=true"):
        FrameStore.recorded(tmp_path, record, 0)
    if harm in ("lost", "emptied"):
        with pytest.raises(BadInputError, match="frame 1"):
            store.read(1, 0)
        assert not store.is_intact(1)
    assert store.is_intact(0)


def test_a_change_within_a_chunk_is_seen_when_it_is_read(tmp_path: Path) -> None:
    store, record, shard = recorded(tmp_path)
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 0xFF
    shard.write_bytes(content)
    FrameStore.recorded(tmp_path, record, 0)
    assert not store.is_intact(1)
    with pytest.raises(BadInputError, match=r"frame 1 damaged on disk"):
        store.read(1, 0)


def test_a_store_that_is_gone(tmp_path: Path) -> None:
    _, record, _ = recorded(tmp_path)
    shutil.rmtree(tmp_path / "a.zarr")
    with pytest.raises(BadInputError, match="no such store"):
        FrameStore.recorded(tmp_path, record, 0)


def test_coarse_levels_keep_the_physical_position_of_intensity(tmp_path: Path) -> None:
    """The centroid of a spot, in µm, is the same on every level."""
    store = FrameStore.prepare(tmp_path / "a.zarr", LAYOUT, 1, {})
    grid = np.indices(LAYOUT.shape_czyx[1:])
    centre = np.array([10, 25, 100])
    spot = 50000 * np.exp(-((grid - centre[:, None, None, None]) ** 2).sum(0) / 18)
    store.write(0, np.stack([spot, spot]).astype(np.uint16))
    group = zarr.open_group(tmp_path / "a.zarr", mode="r")
    for dataset in group.attrs["ome"]["multiscales"][0]["datasets"]:  # type: ignore[index,call-overload]
        scale, translation = (list(t.values())[1][2:] for t in dataset["coordinateTransformations"])
        level = np.asarray(group[dataset["path"]][0, 0]).astype(float)  # type: ignore[index]
        found = [
            (np.indices(level.shape)[a] * level).sum() / level.sum() * scale[a] + translation[a]
            for a in range(3)
        ]
        np.testing.assert_allclose(found, centre * LAYOUT.voxel_um, atol=0.01)


def test_a_store_grows_and_keeps_its_frames(tmp_path: Path) -> None:
    FrameStore.prepare(tmp_path / "a.zarr", LAYOUT, 1, {}).write(0, frame(0))
    store = FrameStore.prepare(tmp_path / "a.zarr", LAYOUT, 4, {})
    assert store.shape[0] == 4
    assert store.has(0)
    np.testing.assert_array_equal(store.read(0, 0), frame(0)[0])


def test_another_layout_replaces_the_store(tmp_path: Path) -> None:
    FrameStore.prepare(tmp_path / "a.zarr", LAYOUT, 1, {}).write(0, frame(0))
    other = StoreLayout(**(LAYOUT.__dict__ | {"voxel_um": (0.3, 0.1, 0.1)}))
    assert not FrameStore.prepare(tmp_path / "a.zarr", other, 1, {}).has(0)


@pytest.mark.timeout(10)
@pytest.mark.parametrize(("shape", "voxel_um"), [((2, 512, 512), 0.1), ((1, 2048, 9), 0.05)])
def test_coarse_levels_of_a_thin_stack_come_to_an_end(shape: tuple[int, int, int], voxel_um: float) -> None:
    """Its finest axis may have no voxel left to halve."""
    layout = StoreLayout(**(LAYOUT.__dict__ | {"shape_czyx": (1, *shape), "voxel_um": (voxel_um, 0.1, 0.1)}))
    factors = layout.level_factors()
    assert max(np.array(shape) // factors[-1]) <= SMALLEST_LEVEL
    assert (np.array(shape) // factors[-1]).min() >= 1
