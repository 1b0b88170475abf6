"""Schedules at their ends and in the middle."""

from dataclasses import replace

import numpy as np
import pytest
from small import small_recipe

from spatialdino_core.pretrain.schedules import cosine, linear, settings_at, warmup_cosine

RECIPE = small_recipe(
    steps=101,
    warmup_steps=20,
    learning_rate=1e-3,
    final_learning_rate=1e-5,
    weight_decay=0.04,
    final_weight_decay=0.4,
    ema_momentum=0.9,
    final_ema_momentum=1.0,
    teacher_temperature=0.04,
    final_teacher_temperature=0.07,
    teacher_temperature_warmup_steps=30,
)


def others(found):
    return found.weight_decay, found.ema_momentum, found.teacher_temperature


def test_first_and_last_step():
    first, last = settings_at(RECIPE, 0), settings_at(RECIPE, 100)
    assert first.learning_rate == pytest.approx(1e-3 / 21)
    assert others(first) == pytest.approx((0.04, 0.9, 0.04))
    assert last.learning_rate == pytest.approx(1e-5)
    assert others(last) == pytest.approx((0.4, 1.0, 0.07))


def test_on_the_way():
    assert settings_at(RECIPE, 20).learning_rate == pytest.approx(1e-3)
    assert settings_at(RECIPE, 60).learning_rate == pytest.approx((1e-3 + 1e-5) / 2)
    assert settings_at(RECIPE, 50).ema_momentum == pytest.approx(0.95)
    assert settings_at(RECIPE, 15).teacher_temperature == pytest.approx(0.055)
    rates = [settings_at(RECIPE, step).learning_rate for step in range(101)]
    assert all(np.diff(rates[:21]) > 0)
    assert all(np.diff(rates[20:]) < 0)


def test_schedules_count_optimiser_steps_whatever_the_accumulation():
    recipe = replace(RECIPE, accumulation=4)
    assert all(settings_at(recipe, step) == settings_at(RECIPE, step) for step in range(101))


def test_going_on_from_weights():
    recipe = replace(
        RECIPE, start_from="x", learning_rate_scale=0.1, frozen_encoder_steps=10, frozen_prototypes_steps=3
    )
    for step in (0, 2, 3, 9, 10, 60):
        settings, plain = settings_at(recipe, step), settings_at(RECIPE, step)
        assert settings.learning_rate == pytest.approx(0.1 * plain.learning_rate)
        assert settings.encoder_frozen == (step < 10)
        assert settings.prototypes_frozen == (step < 3)
        assert not plain.encoder_frozen
        assert not plain.prototypes_frozen


def test_degenerate_lengths():
    assert cosine(0, 1.0, 2.0, 0) == 2.0
    assert linear(0, 1.0, 2.0, 0) == 2.0
    assert linear(9, 1.0, 2.0, 3) == 2.0
    assert warmup_cosine(0, 1.0, 0.0, 10, 3) == pytest.approx(1 / 11)


def test_ranges_must_be_ordered():
    with pytest.raises(ValueError, match="mask_ratio_min"):
        small_recipe(mask_ratio_min=0.6, mask_ratio_max=0.5)
    with pytest.raises(ValueError, match="local_crop_voxels"):
        small_recipe(local_crop_voxels=64)
    with pytest.raises(ValueError, match="frozen_encoder_steps"):
        small_recipe(frozen_encoder_steps=5)
    with pytest.raises(ValueError, match="accumulation"):
        small_recipe(batch_size=6, accumulation=4)
