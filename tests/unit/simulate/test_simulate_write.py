"""Files of simulated movies: names, axes, metadata, and the same bytes for the same seed."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile

from spatialdino_core.simulate import demo
from spatialdino_core.simulate.scene import TRUTH_COLUMNS
from spatialdino_core.simulate.write import write_ome_tiff, write_tiff_series


def pixels_attributes(path: Path) -> dict[str, str]:
    with tifffile.TiffFile(path) as file:
        xml = file.ome_metadata
    element = re.search(r"<Pixels ([^>]*)>", xml)
    assert element is not None
    return dict(re.findall(r'(\w+)="([^"]*)"', element.group(1))) | {"xml": xml}


def frames(shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 60000, shape, dtype=np.uint16)


def test_series_has_acquisition_names_and_survives(tmp_path: Path) -> None:
    movie = frames((3, 2, 4, 5, 6))
    paths = write_tiff_series(tmp_path / "raw", "cell", iter(movie), ["488nm", "560nm"], interval_s=2.5)
    assert [path.name for path in paths[:2] + paths[-1:]] == [
        "cell_ch0_stack0000_488nm_0000000msec_0000000000msecAbs.tif",
        "cell_ch1_stack0000_560nm_0000000msec_0000000000msecAbs.tif",
        "cell_ch1_stack0002_560nm_0005000msec_0000005000msecAbs.tif",
    ]
    assert sorted((tmp_path / "raw").iterdir()) == sorted(paths)
    for path, stack in zip(paths, movie.reshape(6, 4, 5, 6), strict=True):
        np.testing.assert_array_equal(tifffile.imread(path), stack)
    with tifffile.TiffFile(paths[0]) as file:
        assert not file.is_imagej
        assert not file.is_ome


def test_ome_tiff_of_two_channels_states_what_is_known(tmp_path: Path) -> None:
    movie = frames((3, 2, 4, 5, 6))
    path = tmp_path / "new" / "two.ome.tif"
    write_ome_tiff(
        path,
        iter(movie),
        movie.shape,
        movie.dtype,
        channels=["488nm", "560nm"],
        pixel_um=0.104,
        plane_spacing_um=0.209,
        interval_s=2.5,
    )
    with tifffile.TiffFile(path) as file:
        assert file.series[0].axes == "TCZYX"
        np.testing.assert_array_equal(file.asarray(), movie)
    pixels = pixels_attributes(path)
    wanted = {"PhysicalSizeX": 0.104, "PhysicalSizeY": 0.104, "PhysicalSizeZ": 0.209, "TimeIncrement": 2.5}
    assert {name: float(pixels[name]) for name in wanted} == wanted
    assert pixels["PhysicalSizeZUnit"] == "µm"
    assert pixels["TimeIncrementUnit"] == "s"
    assert 'Name="488nm"' in pixels["xml"]
    assert 'Name="560nm"' in pixels["xml"]


def test_skewed_ome_tiff_claims_no_plane_spacing(tmp_path: Path) -> None:
    movie = frames((2, 1, 4, 5, 6))
    path = tmp_path / "one.ome.tif"
    write_ome_tiff(
        path,
        iter(movie),
        movie.shape,
        movie.dtype,
        channels=["488nm"],
        pixel_um=0.104,
        plane_spacing_um=None,
        interval_s=1.0,
    )
    with tifffile.TiffFile(path) as file:
        assert file.series[0].axes == "TZYX"
        np.testing.assert_array_equal(file.asarray(), movie[:, 0])
    pixels = pixels_attributes(path)
    assert "PhysicalSizeZ" not in pixels
    assert 'Name="488nm"' in pixels["xml"]


@pytest.mark.parametrize("count", [1, 3])
def test_wrong_number_of_frames_leaves_no_file(tmp_path: Path, count: int) -> None:
    movie = frames((count, 1, 4, 5, 6))
    with pytest.raises(ValueError, match="frame"):
        write_ome_tiff(
            tmp_path / "x.ome.tif",
            iter(movie),
            (2, 1, 4, 5, 6),
            movie.dtype,
            channels=["a"],
            pixel_um=1,
            plane_spacing_um=1,
            interval_s=1,
        )
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def demo_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("demo")
    demo.main(["--out", str(out), "--seed", "3", "--frames", "3", "--labels"])
    return out


def test_demo_sheet_leads_to_the_raw_data(demo_folder: Path) -> None:
    sheet = pd.read_csv(demo_folder / "movies.tsv", sep="\t", dtype=str)
    header = "movie channel path scan angle_deg step_um pixel_um interval_s skew_axis scan_sign train"
    assert " ".join(sheet.columns) == header
    assert sheet["movie"].tolist() == ["demo_easy", "demo_hard"]
    assert sheet["train"].tolist() == ["yes", "yes"]
    assert sheet.loc[0, ["scan", "angle_deg", "step_um", "pixel_um"]].tolist() == [
        "stage",
        "31.5",
        "0.4",
        "0.104",
    ]
    files = [sorted(demo_folder.glob(pattern)) for pattern in sheet["path"]]
    assert [len(found) for found in files] == [3, 1]
    assert tifffile.imread(files[0][0]).shape == (40, 96, 128)
    assert tifffile.imread(files[1][0]).shape == (3, 40, 96, 128)
    assert "PhysicalSizeZ" not in pixels_attributes(files[1][0])


def test_demo_truth_fits_its_labels(demo_folder: Path) -> None:
    for name in ("demo_easy", "demo_hard"):
        truth = pd.read_csv(demo_folder / "truth" / f"{name}.csv")
        assert list(truth.columns) == TRUTH_COLUMNS
        path = demo_folder / "truth" / f"{name}_truth_labels.ome.tif"
        labels = tifffile.imread(path)
        assert labels.shape == (3, 40, 96, 128 + math.ceil(39 * 0.4 * math.cos(math.radians(31.5)) / 0.104))
        spacing = float(pixels_attributes(path)["PhysicalSizeZ"])
        assert spacing == pytest.approx(0.4 * math.sin(math.radians(31.5)))
        visible = truth[truth["visible"]]
        z, y, x = np.rint(visible[["z", "y", "x"]]).to_numpy(int).T
        at_centre = labels[visible["frame"], z, y, x]
        # All but a few, whose own voxel lies nearer to a close neighbour.
        assert (at_centre == visible["particle"]).mean() > 0.9
        assert (at_centre > 0).all()


def test_demo_motion_can_be_tracked(demo_folder: Path) -> None:
    for name in ("demo_easy", "demo_hard"):
        truth = pd.read_csv(demo_folder / "truth" / f"{name}.csv")
        steps = truth.groupby("particle")[["z_um", "y_um", "x_um"]].diff().dropna()
        assert 0.1 < np.median(np.linalg.norm(steps, axis=1)) < 0.35


def test_same_seed_same_bytes(demo_folder: Path, tmp_path: Path) -> None:
    demo.main(["--out", str(tmp_path), "--seed", "3", "--frames", "3", "--labels"])
    files = {path.relative_to(demo_folder): path.read_bytes() for path in demo_folder.rglob("*.*")}
    again = {path.relative_to(tmp_path): path.read_bytes() for path in tmp_path.rglob("*.*")}
    assert len(files) == 1 + 3 + 1 + 4
    assert files == again
