"""The collapse monitor: alarms on planted collapse, by figures and in real trainings; silence on health."""

import math

import pytest
import torch
from small import small_recipe
from torch.nn import functional
from watched_training import SMALL, noise, watch

from spatialdino_core.pretrain.alarms import MEANINGS
from spatialdino_core.pretrain.figures import target_figures, token_figures
from spatialdino_core.pretrain.monitor import CollapseMonitor
from spatialdino_core.pretrain.teacher_output import TeacherOutput

PROTOTYPES = 64
RECIPE = small_recipe(prototypes=PROTOTYPES, warmup_steps=10, uniform_alarm_steps=5)


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


HEALTHY = {
    "class_target": (3 * normal(40, PROTOTYPES, seed=2)).softmax(-1),
    "patch_target": (3 * normal(90, PROTOTYPES, seed=3)).softmax(-1),
    "class": normal(40, 32),
    "patch": normal(800, 32, seed=1),
}


def figures(**changed):
    said = HEALTHY | changed
    targets = [target_figures(name, said[name]) for name in ("class_target", "patch_target")]
    tokens = [token_figures(name, said[name]) for name in ("class", "patch")]
    return targets[0] | targets[1] | tokens[0] | tokens[1]


def teacher_output(class_targets=HEALTHY["class_target"]):
    tokens = HEALTHY["class"]
    return TeacherOutput(tokens, tokens[:, None], tokens, tokens, class_targets, HEALTHY["patch_target"])


def judged(monitor, *steps, **changed):
    """Alarms at the last of several examinations, all with the same figures."""
    return [monitor.alarms(step, figures(**changed)) for step in steps][-1]


one_direction = normal(40, 32) * 0.1 + 1
one_dimension = normal(40, 1) * normal(32)
same_broad_target = normal(1, PROTOTYPES).softmax(-1).expand(40, -1)
PLANTED = {
    "uniform": ("uniform-collapse:class", {"class_target": torch.full((40, PROTOTYPES), 1 / PROTOTYPES)}),
    "broad": ("uniform-collapse:patch", {"patch_target": same_broad_target}),
    "point": (
        "point-collapse:class",
        {"class_target": functional.one_hot(torch.zeros(40).long(), 64).float()},
    ),
    "one direction": ("dimensional-collapse:class", {"class": one_direction}),
    "one dimension": ("dimensional-collapse:patch", {"patch": one_dimension}),
}


def test_health_raises_no_alarm():
    assert judged(CollapseMonitor(RECIPE), *range(11, 20)) == []


@pytest.mark.parametrize("name", PLANTED)
def test_planted_collapse_raises_its_alarm_when_it_persists(name):
    alarm, planted = PLANTED[name]
    monitor = CollapseMonitor(RECIPE)
    assert judged(monitor, 2, 5, 10, **planted) == []  # warm-up
    assert judged(monitor, 20, 30, **planted) == []
    assert judged(monitor, 40, **planted) == [alarm] == monitor.raised
    assert monitor.has_collapsed
    assert judged(monitor, 50) == [] == monitor.raised
    assert judged(monitor, 60, 70, **planted) == []
    assert alarm.split(":")[0] in MEANINGS


def test_targets_that_jump_between_collapses_count_as_one():
    monitor = CollapseMonitor(RECIPE)
    judged(monitor, 20, **PLANTED["uniform"][1])
    judged(monitor, 30, **PLANTED["point"][1])
    assert judged(monitor, 40, **PLANTED["uniform"][1]) == ["uniform-collapse:class"]


def test_loss_that_stays_uniform_raises_an_alarm():
    uniform = math.log(PROTOTYPES)
    losses = [uniform, uniform, 0.9 * uniform, *[0.99 * uniform] * 4]
    for recipe, alarm in (
        (RECIPE, "uniform-collapse:class"),
        (small_recipe(**{**vars(RECIPE), "targets": "sinkhorn"}), "too-few-samples:class"),
    ):
        monitor = CollapseMonitor(recipe)
        for step, loss in enumerate(losses, 10):
            monitor.observe(step, loss, teacher_output())
        assert judged(monitor, 17) == []
        monitor.observe(17, uniform, teacher_output())
        assert judged(monitor, 18) == [alarm]
        assert monitor.has_collapsed == (recipe is RECIPE)
        monitor.observe(18, 0.9 * uniform, teacher_output())
        assert judged(monitor, 19) == []


def test_loss_during_the_warm_up_does_not_count():
    monitor = CollapseMonitor(RECIPE)
    for step in range(10):
        monitor.observe(step, math.log(PROTOTYPES), teacher_output())
    assert judged(monitor, 11) == []


@pytest.mark.parametrize(
    ("changes", "starves"),
    [
        (dict(targets="sinkhorn", prototypes=1024, batch_size=15), True),  # 30 class tokens for 1024
        (dict(targets="sinkhorn", prototypes=1024, batch_size=16), False),
        (dict(targets="sinkhorn", prototypes=1024, batch_size=30, accumulation=2), True),
        (dict(targets="centering", prototypes=1024, batch_size=2), False),
        (dict(targets="sinkhorn", prototypes=65536, batch_size=2048), False),  # DINOv2, ViT-L
    ],
)
def test_too_few_samples_are_known_before_the_first_step(changes, starves):
    monitor = CollapseMonitor(small_recipe(**changes))
    assert monitor.raised == (["too-few-samples:class"] if starves else [])
    assert not monitor.has_collapsed
    assert monitor.alarms(1, {}) == monitor.raised


def test_dead_prototypes_are_counted_once_there_were_enough_samples():
    half = functional.one_hot(torch.arange(32).repeat(2), PROTOTYPES).float()  # only the first 32 of 64
    monitor = CollapseMonitor(RECIPE)
    for step in range(9):
        monitor.observe(step, 1.0, teacher_output(half))
    assert math.isnan(monitor.figures()["class_dead_prototypes"])  # 576 of 640 samples
    monitor.observe(9, 1.0, teacher_output(half))
    assert monitor.figures()["class_dead_prototypes"] == 0.5
    everything = torch.eye(PROTOTYPES)
    for step in range(2):
        monitor.observe(10 + step, 1.0, teacher_output(everything))
    assert monitor.figures()["class_dead_prototypes"] == 0


def test_resumed_monitor_says_the_same():
    straight = CollapseMonitor(RECIPE)
    killed = CollapseMonitor(RECIPE)
    said = []
    for step in range(20, 44):
        if step == 31:
            state = killed.state_dict()
            killed = CollapseMonitor(RECIPE)
            killed.load_state_dict(state)
        for monitor in (straight, killed):
            monitor.observe(step, math.log(PROTOTYPES), teacher_output())
        planted = PLANTED["point"][1] if step > 28 else {}
        alarms = [monitor.alarms(step, figures(**planted)) for monitor in (straight, killed)]
        assert alarms[0] == alarms[1]
        assert straight.raised == killed.raised
        assert straight.figures() == pytest.approx(killed.figures(), nan_ok=True)
        said += alarms[0]
    assert {"uniform-collapse:class", "point-collapse:class"} == set(said)


@pytest.mark.parametrize("seed", range(3))
def test_healthy_training_is_quiet(seed):
    assert watch(seed=seed).first == {}


COLLAPSES = {
    "the teacher is the student": (
        dict(ema_momentum=0.0, final_ema_momentum=0.0, koleo_weight=0.1),
        {"point-collapse:class", "point-collapse:patch", "dimensional-collapse:class"},
    ),
    "flat targets": (
        dict(teacher_temperature=1.0, final_teacher_temperature=1.0),
        {"uniform-collapse:class", "uniform-collapse:patch"},
    ),
    "neither centre nor KoLeo, nothing to see": (
        dict(crop=noise, center_momentum=1.0, koleo_weight=0.0),
        {"point-collapse:class", "dimensional-collapse:class"},
    ),
    "few samples for many prototypes": (
        dict(targets="sinkhorn", prototypes=1024, batch_size=4),
        {"too-few-samples:class"},
    ),
}


@pytest.mark.parametrize("cause", COLLAPSES)
def test_planted_cause_of_collapse_is_found(cause):
    changes, alarms = COLLAPSES[cause]
    found = watch(seed=1, **changes).first
    assert alarms <= set(found)
    assert max(found[alarm] for alarm in alarms) <= 60 < SMALL["steps"]
