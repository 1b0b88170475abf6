"""OME-TIFF files against what was written: renamed files, sets, pages that images share or leave out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import raw
from raw import assert_is, frames_of, in_file, movie, ome_image, row, write_ome


def one_by_one(folder: Path, data: np.ndarray, name: str, said: str, uuid: str) -> None:
    """A file for each time point; ``said`` is what its XML calls it."""
    for t, stack in enumerate(data):
        own = uuid.format(t=t)
        image = ome_image("x", 1, in_file(said.format(t=t), "" if own == "none" else own))
        write_ome(folder / name.format(t=t), stack, image, own)


@pytest.mark.parametrize(
    ("name", "said", "uuid"),
    [
        ("c_t{t}.ome.tif", "old_{t}.ome.tif", "urn:uuid:{t}"),
        ("c_t{t}.tif", "old_{t}.ome.tif", "urn:uuid:{t}"),
        ("cell3_{t:04d}.ome.tif", "old_{t}.ome.tif", "none"),
        ("c_t{t}.ome.tif", "c_t{t}1.ome.tif", "urn:uuid:{t}"),
        ("c_t{t}.ome.tif", "c_t0.ome.tif", "urn:uuid:same"),
        ("c_t{t}.ome.tif", "out.ome.tif", "urn:uuid:same"),
    ],
)
@pytest.mark.parametrize("whole_folder", [True, False])
def test_a_series_whose_files_have_another_name_in_their_xml(
    tmp_path: Path, name: str, said: str, uuid: str, whole_folder: bool
) -> None:
    data = movie(4)
    one_by_one(tmp_path, data, name, said, uuid)
    rows = [row(tmp_path if whole_folder else tmp_path / "*.tif")]
    assert_is(frames_of(rows), data)
    record, table = raw.table_of(rows)
    assert (record.reading["files"], table.unused) == ("4", {})
    # Each stands alone.
    assert_is(frames_of([row(tmp_path / name.format(t=2), interval_s=None)]), data[2:3])


@pytest.mark.parametrize("renamed", range(3))
def test_one_file_of_a_series_was_renamed(tmp_path: Path, renamed: int) -> None:
    data = movie(3)
    for t, stack in enumerate(data):
        said = "x.ome.tif" if t == renamed else f"c_t{t}.ome.tif"
        uuid = f"urn:uuid:{t}"
        write_ome(tmp_path / f"c_t{t}.ome.tif", stack, ome_image("x", 1, in_file(said, uuid)), uuid)
    assert_is(frames_of([row(tmp_path / "*.tif")]), data)


def positions(folder: Path, data: np.ndarray) -> None:
    """A set: a file for each position, (position, t, z, y, x); each XML describes all."""
    names = [f"a_Pos{n}.ome.tif" for n in range(len(data))]
    images = "".join(
        ome_image(
            f"Pos{n}",
            len(own),
            "".join(in_file(names[n], f"urn:uuid:{n}", FirstT=t, IFD=5 * t) for t in range(len(own))),
        )
        for n, own in enumerate(data)
    )
    for n, own in enumerate(data):
        write_ome(folder / names[n], own, images, f"urn:uuid:{n}")


def test_files_that_give_no_plane_to_any_frame_are_named(tmp_path: Path) -> None:
    data = movie(6).reshape(2, 3, *raw.SHAPE)
    positions(tmp_path, data)
    rows = [row(tmp_path / "*.tif", position="Pos1")]
    assert_is(frames_of(rows), data[1])
    unused = raw.table_of(rows)[1].unused
    assert [Path(file).name for file in unused] == ["a_Pos0.ome.tif"]
    assert "none of its planes" in next(iter(unused.values()))


def test_a_file_of_a_set_that_cannot_be_opened_is_a_bad_frame(tmp_path: Path) -> None:
    """The others are read, and what it would have held is left out."""
    data = movie(3)
    names = [f"a_{t}.ome.tif" for t in range(3)]
    blocks = "".join(in_file(names[t], f"urn:uuid:{t}", FirstT=t) for t in range(3))
    for t, stack in enumerate(data):
        write_ome(tmp_path / names[t], stack, ome_image("x", 3, blocks), f"urn:uuid:{t}")
    assert_is(frames_of([row(tmp_path / "*.tif")]), data)
    (tmp_path / "a_1.ome.tif").write_bytes(b"II*")
    assert "a_1.ome.tif" in raw.problem([row(tmp_path / "*.tif")])
    found = frames_of([row(tmp_path / "*.tif")])
    assert found[1] is None
    assert_is([found[0], found[2]], data[[0, 2]])


@pytest.mark.parametrize("data", ["<TiffData/>", "", '<TiffData IFD="0" PlaneCount="10"/>'])
def test_images_that_claim_the_same_pages(tmp_path: Path, data: str) -> None:
    """The second one would be read from the pages of the first, and its own ones by nobody."""
    both = movie(4)
    images = ome_image("one", 2, data) + ome_image("two", 2, data)
    write_ome(tmp_path / "a.ome.tif", both, images)
    for position in (None, "0", "1", "two"):
        message = raw.problem([row(tmp_path / "a.ome.tif", position=position)])
        assert "page 0 for (0, 0, 0) of image 0 and (0, 0, 0) of image 1" in message
    for number, own in (("1", both[:2]), ("2", both[2:])):
        remedy = row(tmp_path / "a.ome.tif", axes=f"c2t2z{raw.SHAPE[0]}yx", file_channel=number)
        assert_is(frames_of([remedy]), own)


def test_images_that_say_where_their_pages_begin(tmp_path: Path) -> None:
    both = movie(4)
    images = ome_image("one", 2) + ome_image("two", 2, '<TiffData IFD="10" PlaneCount="10"/>')
    write_ome(tmp_path / "a.ome.tif", both, images)
    assert_is(frames_of([row(tmp_path / "a.ome.tif", position="0")]), both[:2])
    assert_is(frames_of([row(tmp_path / "a.ome.tif", position="1")]), both[2:])


@pytest.mark.parametrize("in_set", [True, False])
def test_pages_that_no_image_claims(tmp_path: Path, in_set: bool) -> None:
    """The XML announces as many planes as there are, and names only some of them."""
    data = movie(3)
    name = "b.ome.tif" if in_set else "a.ome.tif"
    blocks = in_file("a.ome.tif", "urn:uuid:own", FirstT=0) + in_file(name, "", FirstT=2, IFD=10)
    write_ome(tmp_path / "a.ome.tif", data, ome_image("x", 3, blocks))
    write_ome(tmp_path / "b.ome.tif", data, ome_image("x", 3, blocks), "urn:uuid:b")
    message = raw.problem([row(tmp_path / "a.ome.tif")], "skip")
    assert f"15 planes, of which its metadata count {5 if in_set else 10}" in message
    assert_is(frames_of([row(tmp_path / "a.ome.tif", axes=f"t3z{raw.SHAPE[0]}yx")]), data)


NAMESPACE = "http://www.openmicroscopy.org/Schemas/Additions/2011-09"


def modulo(element: str) -> str:
    value = f'<Value><Modulo namespace="{NAMESPACE}">{element}</Modulo></Value>'
    kind = "openmicroscopy.org/omero/dimension/modulo"
    annotation = f'<XMLAnnotation ID="A:1" Namespace="{kind}">{value}</XMLAnnotation>'
    return f"<StructuredAnnotations>{annotation}</StructuredAnnotations>"


@pytest.mark.parametrize(
    ("element", "said", "axes"),
    [
        ('<ModuloAlongZ Type="phase" Start="0" End="4"/>', "planes that are 5 of type 'phase'", "t5z6c5yx"),
        (
            '<ModuloAlongT Type="angle"><Label>0</Label><Label>60</Label><Label>120</Label></ModuloAlongT>',
            "time points that are 3 of type 'angle'",
            "t5c3z10yx",
        ),
        ('<ModuloAlongT Type="lifetime"/>', "several of type 'lifetime'", "t5c3z10yx"),
    ],
)
def test_planes_or_time_points_that_are_several_things_in_turn(
    tmp_path: Path, element: str, said: str, axes: str
) -> None:
    """Phases or angles beside each other would be read as planes or frames."""
    data = movie(30)
    write_ome(tmp_path / "a.ome.tif", data, ome_image("x", 30) + modulo(element))
    message = raw.problem([row(tmp_path / "a.ome.tif")])
    assert said in message
    assert "a.ome.tif" in message
    # The remedy: the second of them alone.
    remedy = row(tmp_path / "a.ome.tif", axes=axes, file_channel="2")
    flat = data.reshape(-1, *raw.SHAPE[1:])
    in_planes = flat.reshape(5, 6, 5, *raw.SHAPE[1:])[:, :, 1]
    one = in_planes if "z6" in axes else flat.reshape(5, 3, 10, *raw.SHAPE[1:])[:, 1]
    assert_is(frames_of([remedy]), one)


def test_an_axis_that_is_divided_into_one_is_not_divided(tmp_path: Path) -> None:
    data = movie(2)
    element = '<ModuloAlongZ Type="phase" Start="0" End="0"/>'
    write_ome(tmp_path / "a.ome.tif", data, ome_image("x", 2) + modulo(element))
    assert_is(frames_of([row(tmp_path / "a.ome.tif")]), data)


def test_a_file_that_announces_no_time_point(tmp_path: Path) -> None:
    """In two channels, whose time points are compared."""
    write_ome(tmp_path / "a.ome.tif", movie(2), ome_image("a", 0).replace('SizeC="1"', 'SizeC="2"'))
    rows = [
        row(tmp_path / "a.ome.tif", channel=name, file_channel=n)
        for name, n in (("488nm", "#1"), ("560nm", "#2"))
    ]
    assert "a.ome.tif: found no stack; expected at least one whole stack" in raw.problem(rows)


@pytest.mark.parametrize(
    ("times_s", "why"),
    [
        ((0, 2, 4, 0, 2), "it goes back, from 4 s of time point 2 to 0 s of time point 3"),
        ((0, 2, 2, 6, 8), "time points 1 and 2 have the same time, 2 s"),
        ((0, 0, 0, 0, 0), "every time point has the time 0 s"),
    ],
)
def test_a_clock_that_cannot_be_is_not_taken(tmp_path: Path, times_s: tuple[int, ...], why: str) -> None:
    data = movie(5)
    planes = "".join(
        f'<Plane TheT="{t}" TheC="0" TheZ="{z}" DeltaT="{seconds + z / 100}"/>'
        for t, seconds in enumerate(times_s)
        for z in range(raw.SHAPE[0])
    )
    raw.write_ome(tmp_path / "a.ome.tif", data, raw.ome_image("a", 5, planes=planes))
    sentence = f"the clock of the OME-XML of a.ome.tif is not taken: {why}"
    assert sentence in raw.problem([row(tmp_path / "a.ome.tif", interval_s=None)])
    record = raw.registered([row(tmp_path / "a.ome.tif", interval_s=3.0)])
    assert record.times_s == [0.0, 3.0, 6.0, 9.0, 12.0]
    # A program that writes 0 does not know: nothing is lost.
    assert record.warnings == ([] if set(times_s) == {0} else [sentence])
