"""Foreground without labels: densities against their formulas, and planted foregrounds that must be found."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
from scipy.special import expit
from scipy.stats import gaussian_kde, norm
from sklearn.metrics import roc_auc_score

from spatialdino_core.features.activation import fit_activation, separation
from spatialdino_core.features.density import _log_ratio, calibration, fit_ratio
from spatialdino_core.features.foreground import (
    ForegroundModel,
    _auroc_error,
    fit_foreground,
    pseudo_labels,
)

N = 4000


def planted(
    share: float, shift: float, *, axes: int = 6, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Correlated components (N, axes), content (N,) and the truth (N,): foreground is ``shift`` away."""
    generator = np.random.default_rng(seed)
    truth = generator.random(N) < share
    mixing = generator.normal(0, 1, (axes, axes))
    components = generator.normal(0, 1, (N, axes))
    components[:, 0] += shift * truth
    content = generator.normal(0, 1, N) + 4 * truth
    return components @ mixing, content, truth


def fit(components: np.ndarray, content: np.ndarray, sums: np.ndarray | None = None) -> ForegroundModel:
    nothing = np.random.default_rng(9).normal(0, 1, len(content))
    blocks = np.arange(len(content)) // 100
    return fit_foreground(components, nothing if sums is None else sums, content, blocks, 95.0)


def probability(model: ForegroundModel, components: np.ndarray, sums: np.ndarray | None = None) -> np.ndarray:
    active = model.activation.of(np.zeros(len(components)) if sums is None else sums)
    return model.probability(components, active)


def test_log_ratios_are_those_of_kernel_density_estimates() -> None:
    """Against SciPy's estimate, with the same bandwidth, where both classes are dense."""
    generator = np.random.default_rng(0)
    dim, bright = generator.normal(0, 1, 3000), generator.normal(1.5, 0.7, 400)
    low, high, table = _log_ratio(dim, bright)
    at = np.linspace(-0.5, 2, 13)

    def peer(values: np.ndarray) -> np.ndarray:
        quartiles = np.percentile(values, [25, 75])
        width = 0.9 * min(values.std(), np.ptp(quartiles) / 1.34) * len(values) ** -0.2
        return np.asarray(gaussian_kde(values, width / values.std(ddof=1))(at))

    expected = np.log(peer(bright) / peer(dim))
    found = np.interp(at, np.linspace(low, high, len(table)), table)
    np.testing.assert_allclose(found, expected, atol=0.1)


def test_the_ratio_is_the_analytic_one_of_correlated_gaussians() -> None:
    components, _, truth = planted(0.3, 2.0, axes=3, seed=1)
    sums = fit_ratio(components, truth, ~truth).summed(components)
    shift = components[truth].mean(0) - components[~truth].mean(0)
    within = np.cov(components[~truth].T)
    exact = (components - components.mean(0)) @ np.linalg.solve(within, shift)
    assert np.corrcoef(sums, exact)[0, 1] > 0.97


def test_calibration_finds_slope_and_share() -> None:
    """Sums that are twice the true log ratio of N(0, 1) and N(2, 1), labelled at their bright end."""
    generator = np.random.default_rng(0)
    truth = generator.random(20_000) < 0.2
    values = generator.normal(2.0 * truth, 1)
    exact = 2 * values - 2
    found = calibration(2 * exact + 5, truth, ~truth)
    assert found["slope"] == pytest.approx(0.5, abs=0.03)
    assert found["offset"] == pytest.approx(-2.5, abs=0.15)
    assert found["prior"] == pytest.approx(0.2, abs=0.02)
    backwards = calibration(-exact, truth, ~truth)
    assert backwards["slope"] == backwards["offset"] == 0


def test_probability_is_the_posterior() -> None:
    components, content, truth = planted(0.1, 3.0, axes=1)
    model = fit(components, content)
    assert model.chosen == "density"
    assert model.density is not None
    assert model.density.prior == pytest.approx(0.1, abs=0.04)
    scale = components[~truth].std()
    at = np.sign(components[truth].mean()) * np.array([-1.0, 0, 1, 2, 3, 4])[:, None] * scale
    exact = expit(norm.logpdf(at, 3 * np.sign(at[-1]) * scale, scale) - norm.logpdf(at, 0, scale) - np.log(9))
    np.testing.assert_allclose(probability(model, at), exact[:, 0], atol=0.17)


@pytest.mark.parametrize(("share", "surely"), [(0.03, 0.5), (0.1, 0.8), (0.25, 0.8)])
def test_planted_foreground_is_found_and_background_left_alone(share: float, surely: float) -> None:
    """With a share of 0.03, two in five labels are wrong; that costs certainty, not the order."""
    components, content, truth = planted(share, 5.0)
    model = fit(components, content)
    found = probability(model, components)
    assert roc_auc_score(truth, found) > 0.98
    assert found[truth].mean() > surely
    assert found[~truth].mean() < 0.05


def test_the_better_of_the_two_is_chosen() -> None:
    components, content, truth = planted(0.1, 0.0)
    sums = np.random.default_rng(1).normal(0, 1, N) - 6 * truth
    model = fit(components, content, sums)
    assert model.chosen == "activation"
    assert model.activation.sign == -1
    assert model.evidence["activation"].auroc > 0.9 > 0.6 > model.evidence["density"].auroc
    assert model.evidence["activation"].separation > 2
    found = probability(model, components, sums)
    assert found[truth].mean() > 0.9
    assert found[~truth].mean() < 0.05
    components, content, _ = planted(0.1, 6.0)
    assert fit(components, content).chosen == "density"


def test_held_out_patches_alone_are_evidence() -> None:
    """Densities of pure noise fit their own patches well; of others they know nothing."""
    generator = np.random.default_rng(0)
    components, content = generator.normal(0, 1, (1200, 32)), generator.normal(0, 1, 1200)
    model = fit(components, content)
    bright, dim = pseudo_labels(content, 95.0)
    seen = fit_ratio(components, bright, dim).summed(components)
    assert roc_auc_score(bright[bright | dim], seen[bright | dim]) > 0.9
    assert 0.3 < model.evidence["density"].auroc < 0.7


def test_activation_rises_with_brightness_and_is_0_and_1_in_background() -> None:
    generator = np.random.default_rng(0)
    content = generator.normal(0, 1, N)
    dim = content < 0.5
    for sign in (1, -1):
        model = fit_activation(7 + sign * content + 3, content, dim)
        assert model.sign == sign
        active = model.of(7 + sign * content + 3)
        assert np.corrcoef(active, content)[0, 1] > 0.99
        assert np.median(active[dim]) == pytest.approx(0, abs=0.01)


def test_separation_is_that_of_the_mixture() -> None:
    generator = np.random.default_rng(0)
    two = np.concatenate([generator.normal(0, 1, 20_000), generator.normal(5, 1, 10_000)])
    assert separation(two) == pytest.approx(5, abs=0.1)
    assert separation(generator.normal(0, 1, 20_000)) < 2


def test_the_error_of_an_area_is_its_spread() -> None:
    """Standard deviation over repeated draws of two Gaussians; the formula's exponentials vary more."""
    generator = np.random.default_rng(0)
    labels = np.arange(200) < 40
    areas = [roc_auc_score(labels, generator.normal(labels * 1.2, 1)) for _ in range(400)]
    assert _auroc_error(float(np.mean(areas)), 40, 160) == pytest.approx(np.std(areas), rel=0.25)


@pytest.mark.parametrize("content", [np.zeros(500), np.arange(40.0)])
def test_without_contrast_or_patches_there_is_no_foreground(content: np.ndarray) -> None:
    components = np.random.default_rng(0).normal(0, 1, (len(content), 4))
    model = fit(components, content)
    assert model.chosen == "none"
    assert (probability(model, components) == 0).all()
    assert model.summary()["separation"] == 0


@pytest.mark.parametrize("components", [np.zeros((N, 4)), np.ones((N, 1))])
def test_features_without_spread_say_nothing(components: np.ndarray) -> None:
    """Fresh content, equal features: no patch is likelier foreground than another."""
    model = fit(components, planted(0.1, 0.0)[1], np.zeros(N))
    found = probability(model, components)
    assert np.isfinite(found).all()
    assert np.ptp(found) == 0
    assert found[0] < 0.5


def test_a_model_survives_json() -> None:
    components, content, _ = planted(0.1, 5.0)
    model = fit(components, content)
    again = ForegroundModel(**json.loads(json.dumps(asdict(model))))
    np.testing.assert_array_equal(probability(again, components), probability(model, components))
    assert replace(again) == model
