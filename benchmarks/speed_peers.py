"""Peers of `speed.py`: detectors of bright spots on one frame. Not how well they find: `particle_peers.py`.

Each is given the width of the point spread function and a threshold of four robust standard deviations, or
what stands for it, and has found its maxima when it ends. Nothing of ours is imported, so that any
interpreter that has a peer can run it.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from speed_process import measured

PSF_UM = np.array([0.32, 0.14, 0.14])
WIDER = 1.6
THRESHOLD = 4.0
SCALES = (1.0, 1.4)
WARM_UP = (slice(32), slice(96), slice(96))
Find = Callable[[np.ndarray, np.ndarray], int]
"""From a frame (z, y, x) and the point spread function's width (voxels) to the number of what is found."""


def noise(image: np.ndarray) -> float:
    """Robust standard deviation, from a thirty-second of the voxels."""
    sample = image[::2, ::4, ::4]
    return float(1.4826 * np.median(np.abs(sample - np.median(sample))))


def difference_of_gaussians() -> Find:
    """What TrackMate's detector does, with scipy and scikit-image."""
    from scipy.ndimage import gaussian_filter
    from skimage.feature import peak_local_max

    def find(frame: np.ndarray, sigma: np.ndarray) -> int:
        image = frame.astype(np.float32)
        response = gaussian_filter(image, sigma) - gaussian_filter(image, WIDER * sigma)
        least = THRESHOLD * noise(response)
        return len(peak_local_max(response, min_distance=1, threshold_abs=least, exclude_border=False))

    return find


def laplacian_two_scales() -> Find:
    """Two scales as ours has, each with its maxima."""
    from scipy.ndimage import gaussian_laplace
    from skimage.feature import peak_local_max

    def find(frame: np.ndarray, sigma: np.ndarray) -> int:
        image, found = frame.astype(np.float32), 0
        for scale in SCALES:
            response = -gaussian_laplace(image, scale * sigma)
            least = THRESHOLD * noise(response)
            found += len(peak_local_max(response, min_distance=1, threshold_abs=least, exclude_border=False))
        return found

    return find


def trackpy_locate() -> Find:
    """Its compiled engine; the brightest half per cent of voxels, as it is made for sparse particles."""
    import trackpy

    trackpy.quiet()

    def find(frame: np.ndarray, sigma: np.ndarray) -> int:
        diameter = tuple(int(2 * round(2 * one) + 1) for one in sigma)
        return len(trackpy.locate(frame, diameter, minmass=0, percentile=99.5, engine="numba"))

    return find


def pyclesperanto_gaussians() -> Find:
    """The same difference of Gaussians on OpenCL, without a threshold: it counts every maximum."""
    import pyclesperanto as cle

    if not cle.list_available_devices():
        raise RuntimeError("no OpenCL device (PoCL makes the processor one)")

    def find(frame: np.ndarray, sigma: np.ndarray) -> int:
        pushed = cle.push(frame.astype(np.float32))
        narrow, wide = (
            cle.gaussian_blur(pushed, sigma_z=f * sigma[0], sigma_y=f * sigma[1], sigma_x=f * sigma[2])
            for f in (1.0, WIDER)
        )
        maxima = cle.detect_maxima(narrow - wide, radius_x=1, radius_y=1, radius_z=1)
        return int(np.count_nonzero(cle.pull(maxima)))

    return find


def byotrack_wavelets() -> Find:
    """Icy's spot detector in torch, with the fastest of its three transforms on a processor."""
    import torch
    from byotrack.implementation.detector.wavelet import B3SplineUWTApprox2, WaveletDetector

    torch.set_num_threads(1)
    detector = WaveletDetector(scale=1, k=THRESHOLD)
    detector.b3swt = B3SplineUWTApprox2(2, dim=3, return_all=False)

    def find(frame: np.ndarray, sigma: np.ndarray) -> int:
        image = frame.astype(np.float32)[None, ..., None] / 65535
        return len(np.unique(detector.detect(image)[0].segmentation)) - 1

    return find


PEERS: dict[str, Callable[[], Find]] = {
    "scipy DoG + peak_local_max": difference_of_gaussians,
    "gaussian_laplace, two scales": laplacian_two_scales,
    "trackpy.locate": trackpy_locate,
    "pyclesperanto DoG (PoCL)": pyclesperanto_gaussians,
    "ByoTrack wavelets": byotrack_wavelets,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--case", type=json.loads, required=True)
    case = parser.parse_args().case

    def prepare() -> Callable[[], int]:
        find, frame = PEERS[case["what"]](), np.load(Path(case["frame"]))
        sigma = PSF_UM / case["voxel_um"]
        find(np.ascontiguousarray(frame[WARM_UP]), sigma)
        return lambda: find(frame, sigma)

    measured(prepare)


if __name__ == "__main__":
    main()
