"""The MONAI dictionary transforms: that they compose, and do what the functions behind them do."""

import numpy as np
import pytest
import torch
from monai.transforms import Compose

from spatialdino_core.crops.kmeans import crop_boxes, cut_crop
from spatialdino_core.crops.normalise import Bounds, bounds_of, normalise
from spatialdino_core.crops.parameters import AugmentationParameters, CropParameters, NormalisationParameters
from spatialdino_core.crops.resample import resample_isotropic
from spatialdino_core.crops.transforms import (
    KMeansCropSamplesd,
    NormaliseIntensityd,
    RandomIntensityd,
    RandomViewsd,
    ResampleIsotropicd,
)

VOXEL_UM = (0.25, 0.104, 0.104)
CROPS = CropParameters(crop_voxels=12, crops_per_frame=3, low_percentile=99, high_percentile=99.99)


@pytest.fixture(scope="module")
def counts():
    generator = np.random.default_rng(0)
    image = generator.normal(100, 5, (1, 16, 50, 60))
    for z, y, x in ((3, 10, 10), (8, 35, 15), (10, 20, 45)):
        image[0, z : z + 2, y : y + 5, x : x + 5] += 400
    return np.rint(image).astype(np.uint16)


def pipeline(bounds):
    augmentation = AugmentationParameters()
    return Compose(
        [
            NormaliseIntensityd("image", bounds),
            ResampleIsotropicd("image", 0.104),
            KMeansCropSamplesd("image", "image", CROPS),
            RandomViewsd("image", augmentation, global_voxels=10, local_voxels=6, local_views=4),
            RandomIntensityd(["image_global", "image_local"], augmentation, noisy_keys=["image_global"]),
        ]
    )


def test_they_compose_and_follow_their_seed(counts):
    bounds = bounds_of([counts], NormalisationParameters())
    transform = pipeline(bounds)
    samples = [
        transform.set_random_state(seed)({"image": counts, "voxel_um": VOXEL_UM}) for seed in (1, 1, 2)
    ]
    for sample in samples:
        assert len(sample) == 3
        for crop in sample:
            assert crop["voxel_um"] == (0.104,) * 3
            assert crop["image_global"].shape == (2, 1, 10, 10, 10)
            assert crop["image_local"].shape == (4, 1, 6, 6, 6)
            assert crop["image_box"].placed_on == "foreground"
    first, again, other = (sample[0]["image_global"] for sample in samples)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_volumes_and_crops_are_those_of_the_functions(counts):
    bounds = Bounds(90.0, 500.0)
    before = {"image": counts, "voxel_um": VOXEL_UM}
    sample = ResampleIsotropicd("image", 0.104)(NormaliseIntensityd("image", bounds)(before))
    volume = resample_isotropic(normalise(counts[0], bounds), VOXEL_UM, 0.104)
    assert np.array_equal(sample["image"][0], volume)
    assert before["image"] is counts
    assert before["voxel_um"] == VOXEL_UM

    transform = KMeansCropSamplesd("image", "image", CROPS)
    crops = transform.set_random_state(5)(sample)
    state = np.random.RandomState(5).randint(2**32, size=4, dtype=np.uint32)
    boxes = crop_boxes(volume, np.ones(volume.shape, bool), CROPS, np.random.default_rng(state))
    assert [crop["image_box"] for crop in crops] == boxes
    assert all(np.array_equal(crop["image"][0], cut_crop(volume, crop["image_box"])) for crop in crops)


def test_a_second_resampling_changes_nothing(counts):
    transform = ResampleIsotropicd("image", 0.104)
    once = transform({"image": counts, "voxel_um": VOXEL_UM})
    twice = transform(once)
    assert np.array_equal(once["image"], twice["image"])


def test_crops_leave_out_invalid_voxels_and_keep_tensors(counts):
    volume = torch.from_numpy(counts.astype(np.float32) / 600)
    valid = np.zeros(volume.shape[1:], bool)
    valid[:, 30:, :30] = True
    transform = KMeansCropSamplesd("image", "image", CROPS, valid_key="valid")
    for crop in transform.set_random_state(0)({"image": volume, "valid": valid}):
        assert isinstance(crop["image"], torch.Tensor)
        box = crop["image_box"]
        assert box.origin_voxels[1] + box.shape_voxels[1] > 30


def test_noise_falls_on_global_views_alone():
    off = ("contrast_change", "blur_max_voxels", "bleaching_max", "photons_min", "gradient_max")
    strong = AugmentationParameters(gamma_min=1, gamma_max=1, noise_max=0.2, **dict.fromkeys(off, 0.0))
    views = {"g": torch.full((3, 1, 8, 8, 8), 0.5), "l": torch.full((3, 1, 4, 4, 4), 0.5)}
    changed = RandomIntensityd(["g", "l"], strong, noisy_keys="g").set_random_state(0)(views)
    assert (changed["g"].flatten(1).std(1) > 0.001).all()
    assert (changed["l"] == 0.5).all()
    assert (views["g"] == 0.5).all(), "the sample is not written to"


def test_local_views_inside_global_ones():
    crop = np.arange(30**3, dtype=np.float32).reshape(1, 30, 30, 30)

    def outside(inside):
        augmentation = AugmentationParameters(local_inside_global=inside)
        transform = RandomViewsd("image", augmentation, global_voxels=10, local_voxels=5, local_views=20)
        views = transform.set_random_state(0)({"image": crop})
        shown = [set(view.flatten().tolist()) for view in views["image_global"]]
        local = [set(view.flatten().tolist()) for view in views["image_local"]]
        return sum(not any(view <= around for around in shown) for view in local)

    assert outside(True) == 0
    assert outside(False) > 10


def test_defaults_are_112_and_48():
    views = RandomViewsd("image", AugmentationParameters())
    assert views.sides == {"global": 112, "local": 48}
