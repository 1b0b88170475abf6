"""Responses in PyTorch against scipy and against the compiled ones; what is found with them, tiles and parts.

Here PyTorch computes on the CPU, which nobody is offered.
"""

from __future__ import annotations

import os
import subprocess
import sys
from functools import partial

import numpy as np
import pytest
import torch
from reference_filters import flattened, response, swept

from spatialdino_core.device import gpu_if_wanted
from spatialdino_core.errors import BadInputError
from spatialdino_core.segment.believe.calibration import calibrate
from spatialdino_core.segment.detect import device_responses
from spatialdino_core.segment.detect.blobs import find_blobs
from spatialdino_core.segment.detect.device_responses import DeviceResponses
from spatialdino_core.segment.detect.observer import Detector
from spatialdino_core.segment.detect.window import SegmentMovie
from spatialdino_core.segment.frame import segment_frame
from spatialdino_core.segment.optics import FACTORS
from spatialdino_core.segment.parameters import SegmentParameters
from spatialdino_core.segment.volume import Volume

HERE = torch.device("cpu")
DEVICES = [
    HERE,
    pytest.param(
        torch.device("cuda"),
        marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"),
    ),
]
SIGMA = np.array([1.58, 1.25, 1.1])
SHAPE = (21, 83, 45)


def weights(detectors: int, images: int) -> np.ndarray:
    return np.random.default_rng(3).normal(0, 0.2, (detectors, images, len(FACTORS))) + 0.3


def images(shape: tuple[int, ...], count: int) -> list[np.ndarray]:
    """A frame of counts, and means of others."""
    rng = np.random.default_rng(2)
    frame = rng.poisson(60, shape).astype(np.uint16)
    return [frame, *(rng.normal(60, 4, shape).astype(np.float32) for _ in range(count - 1))]


def mask(kind: str) -> np.ndarray | None:
    """Broadcastable to a frame, as a deskewed one's is, or of each voxel."""
    known = np.random.default_rng(4).random(SHAPE) < 0.9
    return {
        "none": None,
        "wedge": known.max(1, keepdims=True) & (np.arange(45) > np.arange(21)[:, None, None]),
        "rows": known.all(2, keepdims=True) | (np.arange(83)[None, :, None] > 30),
        "voxels": known,
    }[kind]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("kind", ["none", "wedge", "rows", "voxels"])
def test_responses_are_scipys_and_the_compiled_ones(kind, device):
    valid, factors, seen = mask(kind), weights(2, 3), images(SHAPE, 3)
    found = swept(seen, factors, valid, SIGMA, responses=partial(DeviceResponses, device=device))
    flat = [flattened(image.astype(float), valid, SIGMA) for image in seen]
    for one, each in zip(found, factors, strict=True):
        expected = response(flat, each, SIGMA)
        np.testing.assert_allclose(one, expected, atol=2e-5 * np.abs(expected).max())
    compiled = swept(seen, factors, valid, SIGMA)
    np.testing.assert_allclose(found, compiled, atol=1e-5 * np.abs(compiled).max())


@pytest.mark.parametrize("shape", [(1, 40, 7), (5, 1, 30), (3, 2, 1)])
def test_frames_thinner_than_the_filters(shape):
    seen, factors = images(shape, 2), weights(1, 2)
    found = swept(seen, factors, None, SIGMA, responses=partial(DeviceResponses, device=HERE))
    compiled = swept(seen, factors, None, SIGMA)
    np.testing.assert_allclose(found, compiled, atol=1e-5 * np.abs(seen[1]).max())


@pytest.mark.parametrize("bright", [None, 21, 58])
def test_blocks_of_rows_and_parts_of_them_change_no_bit(monkeypatch, bright):
    """Bright rows are 43 rows, the reach of all filters, from the first row of a block, or from the last."""
    seen, factors, valid = images(SHAPE, 2), weights(2, 2), mask("voxels")
    if bright is not None:
        seen[1][:, bright] = 1e20
    responses = partial(DeviceResponses, device=HERE)
    whole = swept(seen, factors, valid, SIGMA, responses=responses)
    monkeypatch.setattr(device_responses, "DEVICE_BYTES", 1)
    for rows in ((0, 83), (5, 40), (66, 83)):
        part = swept(seen, factors, valid, SIGMA, rows, responses)
        assert np.array_equal(part, whole[:, :, slice(*rows)])


def test_what_is_not_finite_is_refused_where_it_is_valid():
    frame = images(SHAPE, 2)[1]
    frame[3, 40, 7] = np.nan
    known = np.isfinite(frame)
    responses = partial(DeviceResponses, device=HERE)
    assert np.isfinite(swept([frame], weights(1, 1), known, SIGMA, responses=responses)).all()
    with pytest.raises(BadInputError, match="NaN or infinite"):
        swept([frame], weights(1, 1), None, SIGMA, responses=responses)


@pytest.mark.parametrize("device", DEVICES)
def test_the_same_blobs_are_found(voxel_um, optics, device):
    """Several sizes, bright and dark, alone and with other frames' help, in tiles and by several threads."""
    shape = (30, 90, 130)
    valid = np.random.default_rng(4).random((30, 1, 130)) < 0.99
    seen = [Volume(image, voxel_um, valid) for image in images(shape, 2)]
    both = weights(2, 2) + np.array([[0.0], [0.3]])
    detector = Detector(both, both[:, :1], 0.3)
    compiled = find_blobs(seen, detector, optics, with_dark=True)
    assert min(map(len, compiled)) > 20
    for options in ({}, {"tile_voxels": 300_000, "threads": 2}):
        found = find_blobs(seen, detector, optics, with_dark=True, device=device, **options)
        for one, two in zip(found, compiled, strict=True):
            order = [np.lexsort(each.position.T) for each in (one, two)]
            assert np.array_equal(one.position[order[0]], two.position[order[1]])
            assert np.array_equal(one.width[order[0]], two.width[order[1]])
            np.testing.assert_allclose(one.z_score[order[0]], two.z_score[order[1]], rtol=1e-4)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("reach", [0, 2])
def test_a_frame_has_the_same_objects(scene, voxel_um, wedge, reach, device):
    frames = [scene(s, count=40).frame for s in (3, 3, 3)] if reach else [scene(3).frame]
    movie = SegmentMovie(lambda number: frames[number], range(len(frames)), voxel_um, valid=wedge)
    parameters = SegmentParameters(temporal_reach_frames=reach, temporal_below_f1=1.0)
    calibration = calibrate(movie, parameters)
    assert calibration.reach == reach
    _, compiled = segment_frame(movie, 0, calibration, parameters)
    _, found = segment_frame(movie, 0, calibration, parameters, device=device)
    assert len(found) == len(compiled) > 15
    for column in compiled.columns:
        np.testing.assert_allclose(found[column], compiled[column], rtol=1e-3, atol=1e-4, err_msg=column)
    for axis in "zyx":
        np.testing.assert_allclose(found[axis], compiled[axis], rtol=0, atol=1e-4)


WITHOUT = """
import sys
from spatialdino_core.device import gpu_if_wanted
import spatialdino_core.segment.stage
assert gpu_if_wanted("auto") is None and gpu_if_wanted("cpu") is None
assert not {"torch", "triton"} & set(sys.modules)
"""


def test_without_a_gpu_nothing_of_torch_is_loaded():
    hidden = os.environ | {"CUDA_VISIBLE_DEVICES": ""}
    subprocess.run([sys.executable, "-c", WITHOUT], env=hidden, check=True)


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_a_gpu_that_is_asked_for_and_not_there_is_an_error():
    with pytest.raises(BadInputError, match="no CUDA device"):
        gpu_if_wanted("cuda")
