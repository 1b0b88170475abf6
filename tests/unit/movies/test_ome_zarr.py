"""OME-Zarr stores of every version and of other programs, whole and broken, against what was written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import raw
import zarr
from raw import assert_is, frames_of, movie, row
from zarr.codecs import ShardingCodec

from spatialdino_core.errors import BadInputError
from spatialdino_core.movies.formats.zarr_chunks import chunks_there

OME = "http://www.openmicroscopy.org/Schemas/OME/2016-06"


def ome_zarr(path: Path, data: np.ndarray, axes: str = "tzyx", version: str = "0.4", **array: Any) -> Any:
    group = zarr.open_group(path, mode="w", zarr_format=2)
    options = dict(chunks=(1,) * (data.ndim - 2) + (4, 5), dtype=data.dtype) | array
    group.create_array("0", shape=data.shape, **options)[:] = data
    named: Any = list(axes) if version in ("0.2", "0.3") else [{"name": name} for name in axes]
    image = {"version": version, "axes": named, "datasets": [{"path": "0"}]}
    group.attrs["multiscales"] = [image if version != "0.1" else {"datasets": [{"path": "0"}]}]
    return group


@pytest.mark.parametrize("axes", ["tzyx", "tzxy", "xyzt", "ztyx"])
@pytest.mark.parametrize("dtype", ["<u2", ">u2", ">i2"])
def test_axes_of_a_store_are_found_by_name(tmp_path: Path, axes: str, dtype: str) -> None:
    data = movie(3)
    ome_zarr(
        tmp_path / "a.zarr", data.transpose(["tzyx".index(a) for a in axes]).astype(dtype), axes, dtype=dtype
    )
    rows = [row(tmp_path / "a.zarr")]
    assert_is(frames_of(rows, "fail"), data)
    part = (slice(1, 4), slice(2, 7), slice(3, None))
    found = raw.sources(rows)[0].read(2, part)
    np.testing.assert_array_equal(found, data[2][part])
    assert found.dtype.isnative


def test_old_versions_of_stores(tmp_path: Path) -> None:
    data = movie(3)
    ome_zarr(tmp_path / "v3.zarr", data, version="0.3")
    ome_zarr(tmp_path / "v1.zarr", data[:, None], "tczyx", version="0.1")
    for name in ("v3.zarr", "v1.zarr"):
        assert_is(frames_of([row(tmp_path / name)], "fail"), data)


def test_collections_of_images(tmp_path: Path) -> None:
    one, other = movie(3), movie(2, seed=1)
    path = tmp_path / "bf.zarr"
    zarr.open_group(path, mode="w", zarr_format=2).attrs["bioformats2raw.layout"] = 3
    ome_zarr(path / "0", one)
    assert_is(frames_of([row(path)], "fail"), one)
    ome_zarr(path / "1", other)
    assert "0 '0' (3 time points of 1 channels); 1 '1' (2 time points" in raw.problem([row(path)])
    assert_is(frames_of([row(path, position="1")], "fail"), other)
    (path / "OME").mkdir()
    deltas = "".join(f'<Plane TheT="{t}" TheC="0" TheZ="0" DeltaT="{7 * t}"/>' for t in range(3))
    (path / "OME" / "METADATA.ome.xml").write_text(
        f'<OME xmlns="{OME}"><Image ID="Image:0"><Pixels '
        f'DimensionOrder="XYZCT" SizeT="3" SizeC="1" SizeZ="5">{deltas}</Pixels></Image></OME>'
    )
    assert raw.registered([row(path, position="0", interval_s=None)]).times_s == [0, 7, 14]
    for below in ("0", "0/0"):  # the path of the image itself, or of its array, knows the same clock
        own = [row(path / below, interval_s=7.0, axes="tzyx")]
        assert_is(frames_of(own, "fail"), one)
        assert raw.table_of(own)[1].clock.startswith("OME-Zarr metadata")
    zarr.open_group(path / "OME", mode="w", zarr_format=2).attrs["series"] = ["1", "0"]
    (path / "OME" / "METADATA.ome.xml").write_text(
        f'<OME xmlns="{OME}">'
        + "".join(
            f'<Image ID="Image:{n}"><Pixels DimensionOrder="XYZCT" SizeT="{frames}" SizeC="1" SizeZ="5">'
            + "".join(f'<Plane TheT="{t}" TheC="0" TheZ="0" DeltaT="{s * t}"/>' for t in range(frames))
            + "</Pixels></Image>"
            for n, (frames, s) in enumerate(((2, 5), (3, 7)))
        )
        + "</OME>"
    )
    assert raw.registered([row(path, position="#1", interval_s=None)]).times_s == [0, 7, 14]
    assert "Write '#1' for the one that is called so, '#0' for the other" in raw.problem(
        [row(path, position="0")]
    )

    plate = tmp_path / "plate.zarr"
    zarr.open_group(plate, mode="w", zarr_format=2).attrs["plate"] = {
        "wells": [{"path": "A/1"}, {"path": "B/2"}]
    }
    ome_zarr(plate / "A" / "1" / "0", one)
    ome_zarr(plate / "B" / "2" / "0", other)
    assert "0 'A/1/0' (3 time points" in raw.problem([row(plate)])
    assert_is(frames_of([row(plate, position="B/2/0")], "fail"), other)


def test_a_bare_array_needs_names_for_its_axes(tmp_path: Path) -> None:
    data = movie(3)
    zarr.create_array(tmp_path / "bare.zarr", data=data)
    assert "Say in the sample sheet's column 'axes'" in raw.problem([row(tmp_path / "bare.zarr")])
    assert_is(frames_of([row(tmp_path / "bare.zarr", axes="tzyx")], "fail"), data)
    zarr.create_array(tmp_path / "named.zarr", data=data, dimension_names=["t", "z", "y", "x"])
    assert_is(frames_of([row(tmp_path / "named.zarr")], "fail"), data)


def test_a_chunk_that_did_not_arrive(tmp_path: Path) -> None:
    data = movie(4)
    path = tmp_path / "a.zarr"
    ome_zarr(path, data)
    (path / "0" / "2.3.1.1").unlink()
    rows = [row(path)]
    assert "1 of 20 chunks are not there" in raw.problem(rows)
    found = frames_of(rows)
    assert [frame is None for frame in found] == [False, False, True, False]
    assert raw.problem([row(path, missing_chunks="zeros")]) == "none"


def test_a_store_that_omits_empty_chunks_is_whole(tmp_path: Path) -> None:
    data = movie(4)
    data[:, :2, :4, :5] = 0
    ome_zarr(tmp_path / "a.zarr", data, fill_value=0, config={"write_empty_chunks": False})
    assert not (tmp_path / "a.zarr" / "0" / "0.0.0.0").exists()
    assert_is(frames_of([row(tmp_path / "a.zarr")], "fail"), data)


def test_what_a_frame_of_a_store_was_read_from_changes_its_stamp(tmp_path: Path) -> None:
    ome_zarr(tmp_path / "a.zarr", movie(3))
    source = raw.sources([row(tmp_path / "a.zarr")])[0]
    before = [source.stamp(frame) for frame in range(3)]
    chunk = tmp_path / "a.zarr" / "0" / "1.0.0.0"
    chunk.write_bytes(chunk.read_bytes())
    after = [source.stamp(frame) for frame in range(3)]
    assert [a == b for a, b in zip(before, after, strict=True)] == [True, False, True]


def stored(path: Path, data: np.ndarray, chunks: tuple[int, ...] = (1, 1, 2, 4, 5), **array: Any) -> Any:
    """An image of version 0.5 with axes (t, c, z, y, x)."""
    group = zarr.open_group(path, mode="w", zarr_format=3)
    group.create_array("0", shape=data.shape, chunks=chunks, dtype=data.dtype, **array)[:] = data
    return describe(group)


def describe(group: Any, *more: dict[str, Any], channels: tuple[str, ...] = (), **changes: Any) -> Any:
    axes = [{"name": name} for name in "tczyx"]
    image = {"axes": axes, "datasets": [{"path": "0"}]} | changes
    omero = {"omero": {"channels": [{"label": name} for name in channels]}} if channels else {}
    group.attrs["ome"] = {"version": "0.5", "multiscales": [image, *more]} | omero
    return group


@pytest.mark.parametrize("location", ["start", "end"])
def test_a_chunk_that_a_shard_lacks(tmp_path: Path, location: Any) -> None:
    data = movie(4)[:, None]
    codec = ShardingCodec(chunk_shape=(1, 1, 2, 4, 5), index_location=location)
    group = stored(tmp_path / "a.zarr", data, (1, 1, 6, 8, 10), serializer=codec, compressors=None)
    rows = [row(tmp_path / "a.zarr")]
    assert_is(frames_of(rows, "fail"), data[:, 0])
    group["0"][2, 0, 2:4, :4, :5] = 0  # which Zarr leaves out of the shard
    assert "1 of 12 chunks are not there" in raw.problem(rows)
    assert [frame is None for frame in frames_of(rows)] == [False, False, True, False]
    file = tmp_path / "a.zarr/0/c/1/0/0/0/0"
    file.write_bytes(file.read_bytes()[:20])
    assert "12 of 12 chunks are not there" in raw.problem(rows)


def test_shards_as_zarr_writes_them_by_default(tmp_path: Path) -> None:
    array = stored(tmp_path / "a.zarr", movie(3)[:, None], shards=(1, 1, 6, 8, 10))["0"]
    assert chunks_there(array).all()
    array[1, 0, :2, 4:, :5] = 0
    assert np.argwhere(~chunks_there(array)).tolist() == [[1, 0, 0, 1, 0]]


def test_a_corner_that_one_channel_leaves_out_in_every_frame(tmp_path: Path) -> None:
    data = np.stack([movie(3), movie(3, seed=1)], 1)
    data[:, 1, :2, :4, :5] = 0
    stored(tmp_path / "a.zarr", data)
    assert not (tmp_path / "a.zarr/0/c/0/1/0/0/0").exists()
    for number in (1, 2):
        assert_is(
            frames_of([row(tmp_path / "a.zarr", file_channel=str(number))], "fail"), data[:, number - 1]
        )


def test_a_channel_that_was_never_written(tmp_path: Path) -> None:
    data = np.stack([movie(3), np.zeros_like(movie(3))], 1)
    stored(tmp_path / "a.zarr", data)
    assert "12 of 12 chunks are not there" in raw.problem([row(tmp_path / "a.zarr", file_channel="2")])


def test_a_plane_that_every_frame_lacks_between_others(tmp_path: Path) -> None:
    stored(tmp_path / "a.zarr", movie(3)[:, None], (1, 1, 1, 8, 9))
    for frame in range(3):
        (tmp_path / f"a.zarr/0/c/{frame}/0/2/0/0").unlink()
    assert "1 of 5 chunks are not there" in raw.problem([row(tmp_path / "a.zarr")])
    assert raw.problem([row(tmp_path / "a.zarr", missing_chunks="zeros")]) == "none"


def test_full_resolution_is_the_largest_wherever_it_is_listed(tmp_path: Path) -> None:
    data = movie(3)[:, None]
    group = stored(tmp_path / "a.zarr", data)
    group.create_array("1", data=np.ascontiguousarray(data[..., ::2, ::2]))
    scales = {"1": [1, 1, 0.5, 0.4, 0.4], "0": [1, 1, 0.5, 0.2, 0.2]}
    listed = [
        {"path": name, "coordinateTransformations": [{"type": "scale", "scale": scale}]}
        for name, scale in scales.items()
    ]
    axes = [{"name": n} for n in "tc"] + [{"name": n, "type": "space", "unit": "Micrometer"} for n in "zyx"]
    describe(group, axes=axes, datasets=listed)
    rows = [row(tmp_path / "a.zarr", pixel_um=None)]
    assert_is(frames_of(rows, "fail"), data[:, 0])
    acquisition = raw.registered(rows, "fail").acquisition
    assert acquisition is not None
    assert acquisition.pixel_um == 0.2


def test_a_second_image_of_one_group_is_chosen_by_its_name(tmp_path: Path) -> None:
    one, other = movie(3)[:, None], movie(3, seed=1)[:, None]
    group = stored(tmp_path / "a.zarr", one)
    group.create_array("b", data=other)
    more = {"axes": [{"name": n} for n in "tczyx"], "datasets": [{"path": "b"}], "name": "decon"}
    describe(group, more, name="raw")
    assert "0 'raw' (3 time points of 1 channels); 1 'decon'" in raw.problem([row(tmp_path / "a.zarr")])
    assert_is(frames_of([row(tmp_path / "a.zarr", position="decon")], "fail"), other[:, 0])
    describe(group, {**more, "datasets": [{"path": "0"}]})  # another pyramid of the same voxels
    assert_is(frames_of([row(tmp_path / "a.zarr")], "fail"), one[:, 0])


def test_labels_that_do_not_fit_the_channels_are_no_names(tmp_path: Path) -> None:
    group = stored(tmp_path / "a.zarr", np.stack([movie(3), movie(3, seed=1)], 1))
    describe(group, channels=("561nm", "488nm"))
    assert raw.problem([row(tmp_path / "a.zarr")]) == "none"
    describe(group, channels=("405nm", "561nm", "488nm"))
    assert "2 channels without names" in raw.problem([row(tmp_path / "a.zarr")])


BROKEN = {
    "no entry": {"multiscales": []},
    "without datasets": {"multiscales": [{"datasets": []}]},
    "dataset 'None'": {"multiscales": [{"datasets": [{}]}]},
    "dataset '7'": {"multiscales": [{"datasets": [{"path": "7"}]}]},
    "a scale of 3": {
        "multiscales": [
            {
                "axes": [{"name": n} for n in "tczyx"],
                "datasets": [{"path": "0"}],
                "coordinateTransformations": [{"type": "scale", "scale": [1, 1, 1]}],
            }
        ]
    },
    "no list": {"multiscales": {"datasets": [{"path": "0"}]}},
    "no mapping": {"multiscales": ["0"]},
}


@pytest.mark.parametrize("found", BROKEN)
def test_broken_metadata_and_their_remedy(tmp_path: Path, found: str) -> None:
    data = movie(3)[:, None]
    group = stored(tmp_path / "a.zarr", data)
    group.attrs["ome"] = BROKEN[found]
    message = raw.problem([row(tmp_path / "a.zarr")])
    assert message.count("metadata that are not whole") == 1
    assert found in message or found.startswith("no ")
    assert_is(frames_of([row(tmp_path / "a.zarr/0", axes="tczyx")], "fail"), data[:, 0])


def test_an_array_without_its_own_metadata(tmp_path: Path) -> None:
    stored(tmp_path / "a.zarr", movie(3)[:, None])
    (tmp_path / "a.zarr/0/zarr.json").unlink()
    assert "dataset '0' is no array that is there" in raw.problem([row(tmp_path / "a.zarr")])


@pytest.mark.parametrize("shards", [None, (1, 1, 6, 8, 10)])
def test_a_damaged_chunk_is_named(tmp_path: Path, shards: Any) -> None:
    stored(tmp_path / "a.zarr", movie(3)[:, None], shards=shards)
    source = raw.sources([row(tmp_path / "a.zarr")])[0]
    chunk = tmp_path / "a.zarr/0/c/1/0/0/0/0"
    chunk.write_bytes(b"x" * 400)
    with pytest.raises(BadInputError, match="0/c/1/0/0/0/0: found a chunk of time 1, channel 0"):
        source.read(1)


def test_a_store_of_which_hardly_a_chunk_is_there(tmp_path: Path) -> None:
    """A damaged shape: what is absent in every frame would be read as zeros."""
    array = zarr.create_array(tmp_path / "a.zarr", shape=(2, 2, 3000, 11), chunks=(1, 1, 9, 11), dtype="u2")
    array[:, :, :9] = 100
    problem = raw.problem([row(tmp_path / "a.zarr", axes="tzyx")])
    assert "1336 chunks, of which 4 are there" in problem
    assert raw.problem([row(tmp_path / "a.zarr", axes="tzyx", missing_chunks="zeros")]) == "none"


def test_the_values_along_axes_that_xarray_keeps_are_no_images(tmp_path: Path) -> None:
    data = movie(3)
    group = zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=2)
    group.create_array("image", shape=data.shape, chunks=(1, 5, 8, 9), dtype="u2")[:] = data
    group["image"].attrs["_ARRAY_DIMENSIONS"] = ["time", "z", "y", "x"]
    for name, values in (("time", np.arange(3.0)), ("z", np.arange(5.0))):
        group.create_array(name, shape=values.shape, chunks=values.shape, dtype="f8")[:] = values
        group[name].attrs["_ARRAY_DIMENSIONS"] = [name]
    assert_is(frames_of([row(tmp_path / "a.zarr")], "fail"), data)


@pytest.mark.parametrize("says", ["nothing", "zeros", "sparse"])
def test_an_acquisition_that_stopped_has_no_frames_of_zeros(tmp_path: Path, says: str) -> None:
    data = movie(4)
    group = stored(
        tmp_path / "a.zarr", np.concatenate([data, np.zeros((6, *data.shape[1:]), np.uint16)])[:, None]
    )
    if says == "sparse":
        group.attrs["write_empty_chunks"] = False
    rows = [row(tmp_path / "a.zarr", missing_chunks="zeros" if says == "zeros" else None)]
    message = raw.problem(rows)
    assert (
        "time point 4 is announced, but was never recorded (the acquisition stopped after 4 time points)"
        in message
    )
    assert "missing_chunks" not in message  # which would make frames of zeros
    assert_is(frames_of(rows), data)


def test_a_frame_in_the_middle_that_did_not_arrive_stays_a_frame(tmp_path: Path) -> None:
    data = movie(4)[:, None]
    stored(tmp_path / "a.zarr", data, (1, 1, 5, 8, 9))
    (tmp_path / "a.zarr/0/c/1/0/0/0/0").unlink()
    rows = [row(tmp_path / "a.zarr")]
    assert [frame is None for frame in frames_of(rows)] == [False, True, False, False]
    assert "1 of 1 chunks are not there" in raw.problem(rows)


def test_a_shard_that_was_cut_at_the_end_is_a_bad_frame_and_not_one_that_never_was(tmp_path: Path) -> None:
    stored(tmp_path / "a.zarr", movie(4)[:, None], (1, 1, 3, 8, 9), shards=(1, 1, 6, 8, 9))
    file = tmp_path / "a.zarr/0/c/3/0/0/0/0"
    file.write_bytes(file.read_bytes()[:20])
    assert [frame is None for frame in frames_of([row(tmp_path / "a.zarr")])] == [False, False, False, True]
    file.unlink()
    assert len(frames_of([row(tmp_path / "a.zarr")])) == 3
