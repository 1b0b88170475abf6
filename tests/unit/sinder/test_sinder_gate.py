"""The gate: robust outliers, and a defect only where outliers point in the predicted direction."""

import numpy as np
import pytest
import torch
from sinder_plant import GATED, PLANTED_BLOCK, SMALL, TURNED, crops, healthy, planted

from spatialdino_core.sinder.directions import defect_directions
from spatialdino_core.sinder.gate import alignment, diagnose, outliers, verdict
from spatialdino_core.sinder.neighbours import anomalies, keep_loss, neighbour_average, neighbour_loss
from spatialdino_core.sinder.parameters import RepairParameters

PARAMETERS = RepairParameters()


def volumes(count=8):
    return [torch.from_numpy(np.stack(crops(count)))]


def test_outliers_need_deviation_and_ratio():
    norms = torch.cat([torch.linspace(0.9, 1.1, 101), torch.tensor([1.9, 2.1, 50.0])])
    assert outliers(norms, 6, 2).nonzero().flatten().tolist() == [102, 103]
    assert outliers(norms, 6, 1).sum() == 3
    wide = torch.linspace(0, 10, 1001)  # median 5, MAD 2.5
    assert outliers(wide, 1, 1).sum() == (wide > 7.5).sum()
    assert not outliers(wide, 6, 1).any()
    assert not outliers(torch.ones(10), 6, 2).any()


def test_alignment_is_the_absolute_cosine():
    direction = torch.tensor([0.6, 0.8])
    tokens = torch.tensor([[3.0, 4.0], [-6.0, -8.0], [4.0, -3.0], [0.0, 0.0]])
    torch.testing.assert_close(alignment(tokens, direction), torch.tensor([1.0, 1.0, 0.0, 0.0]))


def test_healthy_encoder_passes():
    encoder = healthy()
    figures = diagnose(encoder, volumes(), defect_directions(encoder), PARAMETERS)
    assert verdict(figures, PARAMETERS) == (False, ["at most 0 % of tokens are outliers after any block"])


@pytest.mark.parametrize("parameters", [SMALL, GATED, TURNED])
def test_planted_defect_fires_where_it_is(parameters):
    encoder, _ = planted(parameters=parameters)
    figures = diagnose(encoder, volumes(), defect_directions(encoder), PARAMETERS)
    defective, reasons = verdict(figures, PARAMETERS)
    assert defective
    assert figures[PLANTED_BLOCK].defective
    assert figures[PLANTED_BLOCK].outlier_rate == pytest.approx(2 / 216, rel=0.2)
    assert figures[PLANTED_BLOCK].max_norm_ratio > 5
    assert not figures[0].defective
    assert any("a defect" in reason for reason in reasons)


def test_outliers_in_another_direction_are_no_defect():
    encoder, _ = planted()
    directions = defect_directions(encoder)
    other = torch.linalg.svd(directions[PLANTED_BLOCK : PLANTED_BLOCK + 1])[2][1:4]  # orthogonal to it
    defective, reasons = verdict(diagnose(encoder, volumes(), other, PARAMETERS), PARAMETERS)
    assert not defective
    assert all(reason.endswith("no defect") for reason in reasons)


def test_outliers_half_way_to_the_direction_are_no_defect():
    encoder, _ = planted()
    directions = defect_directions(encoder)
    other = torch.linalg.svd(directions[PLANTED_BLOCK : PLANTED_BLOCK + 1])[2][1:2]
    oblique = (directions + other) / 2**0.5
    figures = diagnose(encoder, volumes(), oblique, PARAMETERS)[PLANTED_BLOCK]
    assert 30 < figures.outlier_angle_deg < figures.normal_angle_deg - PARAMETERS.min_contrast_deg
    assert not figures.defective


def test_neighbour_average_equals_the_explicit_sum():
    grid, temperature = (3, 2, 4), 0.2
    tokens = torch.randn(2, 24, 5, generator=torch.Generator().manual_seed(0)).double()
    direction = torch.nn.functional.normalize(torch.arange(1.0, 6).double(), dim=0)
    volume = tokens.reshape(2, *grid, 5).numpy()
    expected = np.zeros_like(volume)
    for b, z, y, x in np.ndindex(2, *grid):
        total = 0.0
        for offset in np.ndindex(3, 3, 3):
            place = tuple(np.array((z, y, x)) + offset - 1)
            if min(place) < 0 or any(p >= n for p, n in zip(place, grid, strict=True)):
                continue
            token = volume[(b, *place)]
            cosine = abs(token @ direction.numpy()) / np.linalg.norm(token)
            weight = np.exp(-cosine / temperature) * np.prod([[0.25, 0.5, 0.25][o] for o in offset])
            expected[b, z, y, x] += weight * token
            total += weight
        expected[b, z, y, x] /= total
    found = neighbour_average(tokens, direction, grid, temperature)
    np.testing.assert_allclose(found.numpy().reshape(expected.shape), expected, rtol=1e-9)
    mask = torch.zeros(2, 24, dtype=torch.bool)
    mask[1, 5] = mask[0, 2] = True
    scale = tokens.norm(dim=-1).median()
    truth = ((tokens - found)[mask].norm(dim=-1).mean() / scale).item()
    assert neighbour_loss(tokens, mask, direction, grid, temperature).item() == pytest.approx(truth)


def test_anomalies_are_large_and_aligned():
    direction = torch.tensor([1.0, 0.0, 0.0])
    tokens = torch.zeros(1, 100, 3)
    tokens[..., 1] = 1
    tokens[0, 3] = torch.tensor([9.0, 1.0, 0.0])  # large and aligned
    tokens[0, 4] = torch.tensor([0.0, 9.0, 0.0])  # large
    tokens[0, 5] = torch.tensor([1.0, 0.0, 0.0])  # aligned
    assert anomalies(tokens, direction, PARAMETERS).nonzero().tolist() == [[0, 3]]


def test_keep_loss_is_zero_at_rest_with_a_usable_gradient():
    original = torch.randn(1, 6, 3, generator=torch.Generator().manual_seed(0))
    kept = torch.tensor([[1, 1, 0, 1, 1, 1]], dtype=torch.bool)
    tokens = original.clone()
    tokens[0, 2] += 100
    tokens.requires_grad_()
    loss = keep_loss(tokens, original, kept)
    loss.backward()
    assert loss == 0
    assert tokens.grad.isfinite().all()
    shifted = keep_loss(original + torch.tensor([3.0, 0.0, 4.0]), original, kept)
    torch.testing.assert_close(shifted, 5 / original.norm(dim=-1).median())
