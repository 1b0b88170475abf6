"""Sound inputs of every kind that the workflow reads, small, from which the fuzzing makes damaged ones."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
import zarr

TESTS = Path(__file__).resolve().parents[1]
sys.path += [str(TESTS / "golden"), str(TESTS / "unit" / "movies")]

from raw_inputs import CziPlane, CziText, blank_row, counts, sheet_row, write_czi, write_settings  # noqa: E402

from spatialdino_core.movies.ledger import Entry, FrameLedger  # noqa: E402
from spatialdino_core.movies.parameters import ReadingParameters  # noqa: E402
from spatialdino_core.movies.register import register_movie  # noqa: E402
from spatialdino_core.movies.sheet import SheetRow  # noqa: E402
from spatialdino_core.movies.stage_record import StageRecord  # noqa: E402
from spatialdino_core.quality.decisions import DECISION_COLUMNS, write_table  # noqa: E402

FRAMES, SHAPE = 3, (4, 9, 11)
OME = "http://www.openmicroscopy.org/Schemas/OME/2016-06"
PLAIN: dict[str, Any] = dict(scan="none", angle_deg=None, skew_axis=None)
Rows = Callable[[Path], list[SheetRow]]


def stacks(channels: int = 1) -> np.ndarray:
    """Counts, axes (t, c, z, y, x), uint16."""
    return counts(0, (FRAMES, channels, *SHAPE))


def tiff_series(folder: Path) -> None:
    kinds: list[dict[str, Any]] = [dict(), dict(compression="zlib"), dict(bigtiff=True, byteorder=">")]
    for t, kind in enumerate(kinds):
        path = folder / f"cell_ch0_stack{t:04d}_488nm_{2000 * t:07d}msec.tif"
        tifffile.imwrite(path, stacks()[t, 0], metadata=None, photometric="minisblack", **kind)
    write_settings(folder / "cell_Settings.txt")


def tiff_pages(folder: Path) -> None:
    """One movie in pages that are tiled or in strips, compressed in several ways."""
    with tifffile.TiffWriter(folder / "a.tif") as writer:
        for n, plane in enumerate(stacks()[:, 0].reshape(-1, *SHAPE[1:])):
            kind = dict(tile=(16, 16), compression=("lzw", "zstd", "deflate", None)[n // SHAPE[0]])
            writer.write(plane, metadata=None, contiguous=False, photometric="minisblack", **kind)


def tiff_planes(folder: Path) -> None:
    for t in range(FRAMES):
        for z in range(SHAPE[0]):
            tifffile.imwrite(folder / f"img_t{t:02d}_z{z:02d}.tif", stacks()[t, 0, z])


def tiff_shaped(folder: Path) -> None:
    """As tifffile itself describes what it writes."""
    tifffile.imwrite(folder / "a.tif", stacks()[:, 0], photometric="minisblack", metadata=dict(axes="TZYX"))


def imagej(folder: Path) -> None:
    about = dict(axes="TZCYX", unit="um", spacing=0.25, finterval=1.5, tunit="sec")
    data = np.moveaxis(stacks(2), 1, 2)
    tifffile.imwrite(folder / "a.tif", data, imagej=True, resolution=(10.0, 10.0), metadata=about)


def ome_tiff(folder: Path) -> None:
    about = dict(axes="TCZYX", Channel={"Name": ["488nm", "560nm"]}, PhysicalSizeX=0.1, PhysicalSizeZ=0.25)
    about["UUID"] = "1"  # its own would be another one each time
    tifffile.imwrite(folder / "a.ome.tif", stacks(2), ome=True, metadata=about)


def ome_set(folder: Path, own: bool = True) -> None:
    """Files of one time point each, with the XML of all, or one that points to the companion file."""
    names = [f"set_{t}.ome.tif" for t in range(FRAMES)]
    blocks = "".join(
        f'<TiffData FirstT="{t}" FirstZ="{z}" IFD="{z}"><UUID FileName="{name}">urn:{t}</UUID></TiffData>'
        f'<Plane TheT="{t}" TheC="0" TheZ="{z}" DeltaT="{2000 * t + z}" DeltaTUnit="ms"/>'
        for t, name in enumerate(names)
        for z in range(SHAPE[0])
    )
    whole = (
        f'<OME xmlns="{OME}" UUID="urn:%s"><Image ID="Image:0" Name="one"><Pixels DimensionOrder="XYZCT" '
        f'Type="uint16" SizeX="11" SizeY="9" SizeZ="4" SizeC="1" SizeT="{FRAMES}" PhysicalSizeX="0.1">'
        f'<Channel ExcitationWavelength="488"/>{blocks}</Pixels></Image></OME>'
    )
    pointer = '<OME UUID="urn:%s"><BinaryOnly MetadataFile="set.companion.ome" UUID="urn:x"/></OME>'
    if not own:
        (folder / "set.companion.ome").write_text(whole % "x")
    for t, name in enumerate(names):
        xml = (whole if own else pointer) % t
        tifffile.imwrite(
            folder / name, stacks()[t, 0], description=xml, metadata=None, photometric="minisblack"
        )


def ome_companion(folder: Path) -> None:
    ome_set(folder, own=False)


def czi(folder: Path) -> None:
    import imagecodecs

    planes = []
    for n, (t, c, z) in enumerate(np.ndindex(FRAMES, 2, SHAPE[0])):
        voxels, place = stacks(2)[t, c, z], dict(C=c, Z=z, T=t, S=0)
        packed = imagecodecs.zstd_encode(voxels.tobytes())
        planes.append(
            CziPlane(voxels, place, 5, packed)
            if n % 3 == 1
            else CziPlane(voxels, place, 6, b"\x03\x01\x00" + packed)
            if n % 3 == 2
            else CziPlane(voxels, place)
        )
    write_czi(folder / "a.czi", planes, CziText())


def zarr_store(folder: Path, version: int, shards: bool = False) -> None:
    group = zarr.open_group(folder / "a.zarr", mode="w", zarr_format=2 if version == 4 else 3)
    data = stacks(2)
    kind: dict[str, Any] = dict(shards=(1, 1, *SHAPE)) if shards else {}
    group.create_array("0", shape=data.shape, chunks=(1, 1, 2, 9, 11), dtype="uint16", **kind)[:] = data
    scale = [{"type": "scale", "scale": [2.0, 1.0, 0.25, 0.1, 0.1]}]
    image = {
        "axes": [{"name": n, **({"unit": "micrometer"} if n in "zyx" else {})} for n in "tczyx"],
        "datasets": [{"path": "0", "coordinateTransformations": scale}],
    }
    about = {"multiscales": [image], "omero": {"channels": [{"label": "488nm"}, {"label": "560nm"}]}}
    group.attrs.update(about if version == 4 else {"ome": {"version": "0.5", **about}})


def zarr_04(folder: Path) -> None:
    zarr_store(folder, 4)


def zarr_05(folder: Path) -> None:
    zarr_store(folder, 5)


def zarr_shards(folder: Path) -> None:
    zarr_store(folder, 5, shards=True)


def zarr_collection(folder: Path) -> None:
    """As bioformats2raw writes it."""
    path = folder / "a.zarr"
    zarr.open_group(path, mode="w", zarr_format=2).attrs["bioformats2raw.layout"] = 3
    group = zarr.open_group(path / "0", mode="w", zarr_format=2)
    group.create_array("0", shape=(FRAMES, *SHAPE), chunks=(1, 2, 9, 11), dtype=">u2")[:] = stacks()[:, 0]
    group.attrs["multiscales"] = [{"axes": [{"name": n} for n in "tzyx"], "datasets": [{"path": "0"}]}]
    (path / "OME").mkdir()
    planes = "".join(f'<Plane TheT="{t}" TheC="0" TheZ="0" DeltaT="{2 * t}"/>' for t in range(FRAMES))
    (path / "OME" / "METADATA.ome.xml").write_text(
        f'<OME xmlns="{OME}"><Image ID="Image:0"><Pixels DimensionOrder="XYZCT" SizeT="{FRAMES}" SizeC="1" '
        f'SizeZ="4">{planes}</Pixels></Image></OME>'
    )


def sheet(folder: Path) -> None:
    tifffile.imwrite(folder / "a_t0.tif", stacks()[0, 0])
    lines = [
        "movie channel path scan angle_deg step_um pixel_um interval_s skew_axis scan_sign train roi_um "
        "position flip dark flat registration bad_pixels file_channel axes time_point missing_chunks",
        "a 488nm a_t*.tif stage 31.5 0.4 0.104 2.0 x +1 yes 0:12,20:60,0:45 "
        "0 xy 100 f.tif r.json b.tif 488 t1zyx _t(\\d+) zeros",
        "a GFP a_t*.tif stage 31.5 0.4 0.104 2.0 x +1 yes 0:12,20:60,0:45 "
        "0 - d.tif - - - 2 zyx t(?P<order>\\d+) -",
        'b 560nm "a_t*.tif" none - 0.2 0.1 1 - - no - - - - - - - - - - -',
    ]
    cells = [["" if cell == "-" else cell for cell in line.split(" ")] for line in lines]
    text = "\n".join("\t".join(row) for row in cells) + "\n# a note\n"
    (folder / "movies.tsv").write_text(text)


def settings(folder: Path) -> None:
    (folder / "config.yaml").write_bytes((TESTS.parent / "recipes" / "demo.yaml").read_bytes())
    (folder / "other.yaml").write_bytes((TESTS.parent / "config.yaml").read_bytes())


def weights(folder: Path) -> None:
    import torch

    from spatialdino_core.encoder.header import WeightsHeader
    from spatialdino_core.encoder.parameters import EncoderParameters
    from spatialdino_core.encoder.vit import build_encoder
    from spatialdino_core.encoder.weights import save_encoder

    small = EncoderParameters(
        embed_dim=8, depth=1, heads=2, patch_voxels=2, mlp_ratio=1, registers=1, drop_path=0.0
    )
    header = WeightsHeader(
        architecture=small,
        voxel_um=(0.104, 0.104, 0.104),
        normalisation={"scale": "global", "low_counts": 101.5, "high_counts": 2000.0},
        field_of_view_voxels=(4, 4, 4),
        channels=(("488nm",),),
    )
    encoder = build_encoder(small, torch.Generator().manual_seed(0))
    save_encoder(folder / "model.safetensors", encoder, header, {"pca.mean": torch.arange(8.0)})


def calibrations(folder: Path) -> None:
    """What a row of a sheet can name beside the raw files."""
    tifffile.imwrite(folder / "dark.tif", stacks()[0, 0], photometric="minisblack")
    tifffile.imwrite(folder / "flat.tif", stacks()[0, 0, 0] + 100, compression="zlib")
    tifffile.imwrite(folder / "bad.tif", np.eye(9, 11, dtype=np.uint8))
    (folder / "bad.tsv").write_text("y\tx\n3\t4\n8\t10\n")
    (folder / "shift.json").write_text(json.dumps(np.eye(4).tolist()))


def records(folder: Path) -> None:
    """What the stages of a movie write for each other."""
    tiff_series(folder)
    record, table = register_movie(series_rows(folder), ReadingParameters(), "skip")
    assert record.problem is None, record.problem
    table.write(folder / "acquisition.tsv", record.skipped)
    record.write(folder / "movie.json")
    entries = [Entry(frame=t, key="k", stamp="s", output=f"o{t}", stored=["i"]) for t in range(FRAMES)]
    ledger = FrameLedger(folder / "deskew.jsonl")
    for entry in entries:
        ledger.add(entry)
    StageRecord.of(["deskewed.ome.zarr"], entries, {"acquisition": asdict(record.usable())}).write(
        folder / "deskewed.json"
    )
    (folder / "calibration.json").write_text(json.dumps({"key": "k", "value": {"low": 1.0}}))
    row = {"movie": "cell", "decision": "accept", "who": "me", "when": "now", "why": "good"}
    write_table(folder / "decisions.tsv", DECISION_COLUMNS, [row])
    verdict = {"movie": "cell", "verdict": "accept", "reason": "", "judged": "j", "snr": 5.0}
    write_table(folder / "metrics.tsv", list(verdict), [verdict])


def one_row(name: str, **changes: Any) -> Rows:
    return lambda folder: [sheet_row(folder / name, **(PLAIN | changes))]


def two_rows(name: str, **changes: Any) -> Rows:
    return lambda folder: [
        sheet_row(folder / name, channel=channel, file_channel=number, **(PLAIN | changes))
        for channel, number in (("488nm", "1"), ("560nm", "2"))
    ]


def series_rows(folder: Path) -> list[SheetRow]:
    return [blank_row(folder / "cell_*.tif", skew_axis="x", interval_s=2.0)]


MOVIES: dict[Callable[[Path], None], Rows] = {
    tiff_series: series_rows,
    tiff_pages: one_row("a.tif", axes="t3z4yx"),
    tiff_planes: one_row("img_*.tif"),
    tiff_shaped: one_row("a.tif"),
    imagej: two_rows("a.tif", step_um=None, pixel_um=None, interval_s=None),
    ome_tiff: two_rows("a.ome.tif", step_um=None, pixel_um=None),
    ome_set: one_row("set_0.ome.tif"),
    ome_companion: one_row("set*"),
    czi: lambda folder: [blank_row(folder / "a.czi", channel=c) for c in ("488nm", "560nm")],
    zarr_04: two_rows("a.zarr", step_um=None, pixel_um=None),
    zarr_05: two_rows("a.zarr", step_um=None, pixel_um=None),
    zarr_shards: two_rows("a.zarr"),
    zarr_collection: one_row("a.zarr"),
}
"""What builds a movie, and its rows of a sample sheet."""
