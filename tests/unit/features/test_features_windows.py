"""Windows, basis, foreground and grid: each against a direct computation."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

from spatialdino_core.encoder.parameters import EncoderParameters
from spatialdino_core.encoder.vit import VisionTransformer3D, build_encoder
from spatialdino_core.features.basis import fit_basis, project
from spatialdino_core.features.foreground import activation, fit_foreground, probability
from spatialdino_core.features.grid import on_voxels, patch_origin_um, patch_spacing_um
from spatialdino_core.features.windows import encode_windows, padded_length


@pytest.fixture(scope="module")
def encoder() -> VisionTransformer3D:
    parameters = EncoderParameters(embed_dim=16, depth=2, heads=2)
    return build_encoder(parameters, torch.Generator().manual_seed(0)).eval()


def volume(*shape: int) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(1))


def windows(
    encoder: VisionTransformer3D, image: torch.Tensor, valid: torch.Tensor | None = None, overlap: float = 0.5
) -> torch.Tensor:
    inside = torch.ones_like(image, dtype=torch.bool) if valid is None else valid
    return encode_windows(encoder, image, inside, window_voxels=32, overlap=overlap, batch=3)


def direct(encoder: VisionTransformer3D, image: torch.Tensor, overlap_step: int) -> torch.Tensor:
    """Average of explicit encodings of every window of an exactly covered volume."""
    total = torch.zeros(16, *[n // 8 for n in image.shape])
    count = torch.zeros(total.shape[1:])
    starts = [range(0, n - 31, overlap_step) for n in image.shape]
    for z in starts[0]:
        for y in starts[1]:
            for x in starts[2]:
                crop = image[None, None, z : z + 32, y : y + 32, x : x + 32]
                with torch.inference_mode():
                    tokens = encoder(crop).patch_tokens[0].T.reshape(16, 4, 4, 4)
                place = tuple(slice(s // 8, s // 8 + 4) for s in (z, y, x))
                total[(slice(None), *place)] += tokens
                count[place] += 1
    return total / count


@pytest.mark.parametrize(("overlap", "step"), [(0.5, 16), (0.0, 32), (0.75, 8)])
def test_tokens_are_the_mean_over_explicit_windows(
    encoder: VisionTransformer3D, overlap: float, step: int
) -> None:
    image = volume(64, 32, 96)
    torch.testing.assert_close(
        windows(encoder, image, overlap=overlap), direct(encoder, image, step), atol=1e-5, rtol=0
    )


def test_any_shape_is_completed_by_its_edge(encoder: VisionTransformer3D) -> None:
    image = volume(45, 20, 70)
    padded = torch.nn.functional.pad(image[None, None], (0, 10, 0, 12, 0, 3), mode="replicate")[0, 0]
    found = windows(encoder, image)
    assert found.shape == (16, 6, 3, 9)
    torch.testing.assert_close(found, direct(encoder, padded, 16)[:, :6, :3, :9], atol=1e-5, rtol=0)


@pytest.mark.parametrize(("length", "expected"), [(5, 32), (32, 32), (33, 48), (48, 48), (49, 64)])
def test_padded_length(length: int, expected: int) -> None:
    assert padded_length(length, 32, 16) == expected


def test_windows_without_data_are_not_encoded(encoder: VisionTransformer3D) -> None:
    image, valid = volume(32, 32, 96), torch.zeros(32, 32, 96, dtype=torch.bool)
    valid[..., :8] = True
    found = windows(encoder, image, valid, overlap=0.0)
    assert (found[..., 4:] == 0).all()
    torch.testing.assert_close(found[..., :4], direct(encoder, image[..., :32], 32), atol=1e-5, rtol=0)


def test_the_basis_is_that_of_scikit_learn(encoder: VisionTransformer3D) -> None:
    crops = [np.random.default_rng(n).random((1, 40, 40, 40), np.float32) for n in range(6)]
    basis = fit_basis(encoder, crops, 32)
    with torch.inference_mode():
        tokens = [encoder(torch.as_tensor(c[None, :, 4:36, 4:36, 4:36])).patch_tokens[0] for c in crops]
    stacked = torch.cat(tokens).double().numpy()
    peer = PCA().fit(stacked)
    np.testing.assert_allclose(basis["pca.explained_variance"], peer.explained_variance_ratio_, atol=1e-5)
    agreement = np.abs((basis["pca.components"].numpy()[:4] * peer.components_[:4]).sum(1))
    np.testing.assert_allclose(agreement, 1, atol=1e-3)
    assert (
        basis["pca.components"].gather(1, basis["pca.components"].abs().argmax(1, keepdim=True)) > 0
    ).all()
    projected = project(torch.as_tensor(stacked.T.reshape(16, -1, 1, 1)).float(), basis, 4)
    np.testing.assert_allclose(
        np.abs(projected[:, :, 0, 0].T.numpy()), np.abs(peer.transform(stacked)[:, :4]), atol=1e-3
    )


def test_planted_foreground_is_found_and_background_is_about_one() -> None:
    generator = np.random.default_rng(0)
    patches = generator.normal(0, [1, 2, 0.5, 1], (4000, 4))
    patches[:400] += 8 * np.array([1, 2, 0.5, 1])
    brightness = generator.normal(0, 1, 4000) + 5 * (np.arange(4000) < 400)
    model = fit_foreground(patches, brightness)
    active = activation(patches.T.reshape(4, 40, 10, 10), model)
    likely = probability(active, model).ravel()
    assert model.separation > 2
    assert model.weights[1] == pytest.approx(0.1, abs=0.02)
    assert np.sqrt((active.ravel()[400:] ** 2).mean()) == pytest.approx(1, abs=0.2)
    assert likely[:400].min() > 0.9
    assert np.median(likely[400:]) < 0.01


def test_background_alone_is_reported_as_not_bimodal() -> None:
    generator = np.random.default_rng(0)
    model = fit_foreground(generator.normal(0, 1, (4000, 8)), generator.normal(0, 1, 4000))
    assert model.separation < 2


def test_brightness_says_which_half_is_the_foreground() -> None:
    """In a crowded movie nearly half of the patches differ from background."""
    generator = np.random.default_rng(0)
    patches = generator.normal(0, 1, (4000, 4))
    bright = np.arange(4000) < 1900
    patches[bright] += 8
    model = fit_foreground(patches, generator.normal(0, 1, 4000) + 10 * bright)
    likely = probability(activation(patches.T.reshape(4, 40, 10, 10), model), model).ravel()
    assert likely[bright].min() > 0.9
    assert likely[~bright].mean() < 0.05


@pytest.mark.parametrize("patches", [np.zeros((500, 4)), np.ones((3, 4))])
def test_featureless_patches_give_no_foreground(patches: np.ndarray) -> None:
    model = fit_foreground(patches, np.zeros(len(patches)))
    likely = probability(activation(patches.T.reshape(4, -1, 1, 1), model), model)
    assert np.isfinite(likely).all()
    assert likely.max() < 0.01


def test_a_linear_map_is_reproduced_at_voxel_centres() -> None:
    """A field linear in µm, sampled at patch centres, is the same field at voxel centres."""
    spacing, origin = patch_spacing_um((0.1, 0.1, 0.1), 8), patch_origin_um((0.1, 0.1, 0.1), 8)
    assert origin == pytest.approx((0.35, 0.35, 0.35))
    grid = np.meshgrid(*[np.arange(n) * 0.8 + 0.35 for n in (4, 5, 6)], indexing="ij")
    found = on_voxels(grid[0] + 2 * grid[1] - grid[2], spacing, origin, (12, 30, 40), (0.2, 0.1, 0.1))
    fine = np.meshgrid(
        *[np.arange(n) * v for n, v in zip((12, 30, 40), (0.2, 0.1, 0.1), strict=True)], indexing="ij"
    )
    expected = fine[0] + 2 * fine[1] - fine[2]
    inner = (slice(2, 12), slice(4, 30), slice(4, 40))
    np.testing.assert_allclose(found[inner], expected[inner], atol=1e-5)
