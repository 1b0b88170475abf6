"""Windows: each result against explicit encodings of every window, blended by the written formula."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import product

import numpy as np
import pytest
import torch

from spatialdino_core.encoder.parameters import EncoderParameters
from spatialdino_core.encoder.vit import VisionTransformer3D, build_encoder
from spatialdino_core.features.windows import Encoded, encode_windows, whole_patches

Blended = tuple[np.ndarray, np.ndarray, np.ndarray]


def volume(*shape: int, channels: int = 1) -> torch.Tensor:
    return torch.rand((channels, *shape), generator=torch.Generator().manual_seed(1))


def windows(
    encoder: VisionTransformer3D,
    image: torch.Tensor,
    valid: torch.Tensor | None = None,
    *,
    overlap: float = 0.5,
    window: int = 32,
    dtype: torch.dtype = torch.float32,
) -> Encoded:
    patch = encoder.architecture.patch_voxels
    if valid is None:
        valid = torch.ones([n // patch for n in image.shape[1:]], dtype=torch.bool)
    return encode_windows(encoder, image, valid, window_voxels=window, overlap=overlap, batch=3, dtype=dtype)


def starts(length: int, window: int, step: int) -> Iterator[int]:
    """In patches: every step, the last one moved back to end with the volume."""
    at = 0
    while at + window < length:
        yield at
        at += step
    yield length - window


def direct(encoder: VisionTransformer3D, image: torch.Tensor, window: int, step: int) -> Blended:
    """Tokens, attention and class token from a loop over windows; ``window`` and ``step`` in patches."""
    side, width = encoder.architecture.patch_voxels, encoder.architecture.embed_dim
    grid = [n // side for n in image.shape[1:]]
    sides = [min(window, n) for n in grid]
    total = np.zeros((width + encoder.architecture.heads, *grid))
    weights, classes = np.zeros(grid), []
    fade = [np.sin(np.pi * (np.arange(n) + 0.5) / n) ** 2 for n in sides]
    weight = fade[0][:, None, None] * fade[1][:, None] * fade[2]
    for corner in product(*(starts(n, w, step) for n, w in zip(grid, sides, strict=True))):
        place = tuple(slice(c, c + w) for c, w in zip(corner, sides, strict=True))
        crop = image[(slice(None), *(slice(p.start * side, p.stop * side) for p in place))]
        with torch.inference_mode():
            output = encoder(crop[None], class_attention=True)
        tokens = output.patch_tokens[0].T.reshape(-1, *sides).numpy()
        attention = output.class_attention[0].reshape(-1, *sides).numpy() * np.prod(sides)
        total[(slice(None), *place)] += weight * np.concatenate([tokens, attention])
        weights[place] += weight
        classes.append(output.class_token[0].numpy())
    blended = total / weights
    return blended[:width], blended[width:], np.mean(classes, axis=0)


def check(found: Encoded, expected: Blended) -> None:
    for one, other in zip((found.tokens, found.attention, found.class_token), expected, strict=True):
        np.testing.assert_allclose(one, other, atol=2e-5)


@pytest.mark.parametrize(("overlap", "step"), [(0.5, 2), (0.0, 4), (0.75, 1), (0.4, 2)])
@pytest.mark.parametrize("shape", [(64, 32, 96), (72, 40, 56), (16, 48, 8)])
def test_tokens_are_blended_from_explicit_windows(
    encoder: VisionTransformer3D, overlap: float, step: int, shape: tuple[int, int, int]
) -> None:
    image = volume(*shape)
    check(windows(encoder, image, overlap=overlap), direct(encoder, image, 4, step))


def test_bfloat16_stays_close(encoder: VisionTransformer3D) -> None:
    image = volume(32, 40, 64)
    truth, found = windows(encoder, image), windows(encoder, image, dtype=torch.bfloat16)
    for name in ("tokens", "attention", "class_token"):
        exact, rounded = getattr(truth, name), getattr(found, name)
        assert rounded.dtype == torch.float32
        assert 1e-5 < (rounded - exact).norm() / exact.norm() < 0.02


@pytest.mark.parametrize("patch", [3, 7])
def test_patches_of_any_side_and_several_channels(patch: int) -> None:
    """Scaling window positions by 1 / 7 would lose some of them to rounding."""
    parameters = EncoderParameters(
        embed_dim=8, depth=1, heads=2, channels=2, patch_voxels=patch, layer_scale=1.0, drop_path=0.0
    )
    several = build_encoder(parameters, torch.Generator().manual_seed(0)).eval()
    image = volume(9 * patch, 5 * patch, 13 * patch, channels=2)
    check(windows(several, image, window=4 * patch), direct(several, image, 4, 2))


def test_what_is_not_in_whole_patches_is_refused(encoder: VisionTransformer3D) -> None:
    with pytest.raises(ValueError, match="whole patches"):
        windows(encoder, volume(32, 32, 36))
    with pytest.raises(ValueError, match="window of 36"):
        windows(encoder, volume(64, 64, 64), window=36)
    with pytest.raises(ValueError, match="patches of"):
        windows(encoder, volume(32, 32, 40), torch.ones(4, 4, 4, dtype=torch.bool))


def test_a_volume_is_completed_by_its_edge() -> None:
    image = np.random.default_rng(0).random((2, 5, 8, 17))
    found = whole_patches(image, 8)
    assert found.shape == (2, 8, 8, 24)
    np.testing.assert_array_equal(found[:, :5, :, :17], image)
    np.testing.assert_array_equal(found[:, 5:, :, 20], np.repeat(image[:, 4:5, :, 16], 3, axis=1))


def test_windows_without_data_are_not_encoded(encoder: VisionTransformer3D) -> None:
    image, valid = volume(32, 32, 96), torch.zeros(4, 4, 12, dtype=torch.bool)
    valid[..., :1] = True
    found = windows(encoder, image, valid, overlap=0.0)
    assert found.tokens[..., 4:].isnan().all()
    check(
        Encoded(found.tokens[..., :4], found.attention[..., :4], found.class_token),
        direct(encoder, image[..., :32], 4, 4),
    )


def test_a_window_counts_in_the_class_token_by_its_data(encoder: VisionTransformer3D) -> None:
    image, valid = volume(32, 32, 64), torch.ones(4, 4, 8, dtype=torch.bool)
    valid[..., 5:] = False
    first, second = (direct(encoder, image[..., s], 4, 4)[2] for s in (slice(32), slice(32, None)))
    found = windows(encoder, image, valid, overlap=0.0).class_token
    np.testing.assert_allclose(found, (4 * first + second) / 5, atol=1e-5)


@pytest.mark.parametrize(("overlap", "patches"), [(0.75, 1), (0.5, 2)])
def test_a_translated_volume_has_translated_features(
    encoder: VisionTransformer3D, overlap: float, patches: int
) -> None:
    """By the step of the windows, which is one patch if windows of four patches overlap by three."""
    image = volume(32, 32, 160)
    whole = windows(encoder, image, overlap=overlap).tokens
    moved = windows(encoder, image[..., 8 * patches :], overlap=overlap).tokens
    inner = slice(4, 14 - patches)
    np.testing.assert_allclose(moved[..., inner], whole[..., patches:][..., inner], atol=2e-5)


def test_a_constant_volume_has_constant_features(encoder: VisionTransformer3D) -> None:
    found = windows(encoder, torch.full((1, 72, 40, 56), 0.4))
    for each in (found.tokens, found.attention):
        np.testing.assert_allclose(each, each[:, :1, :1, :1].expand_as(each), atol=1e-5)


class Surroundings(torch.nn.Module):
    """An encoder of nothing but the context: each token is the mean of its window."""

    def __init__(self) -> None:
        super().__init__()
        self.architecture = EncoderParameters(embed_dim=2, depth=1, heads=1, layer_scale=1.0, drop_path=0.0)
        self.anchor = torch.nn.Parameter(torch.zeros(1))

    def forward(self, crops: torch.Tensor, class_attention: bool) -> object:
        from spatialdino_core.encoder.vit import EncoderOutput

        batch, _, z, y, x = crops.shape
        number = z * y * x // 512
        tokens = crops.mean((1, 2, 3, 4))[:, None, None].expand(batch, number, 2)
        return EncoderOutput(tokens[:, 0], tokens, (z // 8, y // 8, x // 8), tokens[:, None, :, 0])


@pytest.mark.parametrize("patches", [4, 14])
def test_a_new_window_enters_gently(patches: int) -> None:
    """Contexts differ by 1 from window to window: what a border shows of it is sin²(π / 2n)."""
    step: Callable[[int], torch.Tensor] = lambda n: torch.arange(n // 8 // (patches // 2)).float()  # noqa: E731
    length = 8 * patches * 4
    ramp = step(length).repeat_interleave(4 * patches)[None, None, None].expand(1, 8, 8, length)
    found = windows(Surroundings(), ramp, window=8 * patches).tokens[0, 0, 0]  # type: ignore[arg-type]
    borders = np.arange(patches // 2, 3 * patches, patches // 2)
    jumps = np.abs(np.diff(found))[borders[1:] - 1]
    assert jumps.max() < 2.1 * np.sin(np.pi / (2 * patches)) ** 2
    assert np.abs(np.diff(found)).max() < 1.1 * np.sin(np.pi / patches)
