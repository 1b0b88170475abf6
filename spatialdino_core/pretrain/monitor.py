"""Is the network collapsing? Named alarms on the figures of training batches and of held-out views.

Three places are watched, because tokens can look healthy while the outputs of the head are uniform. The
figures themselves are in ``figures.py`` and ``examine.py``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from spatialdino_core.pretrain.batches import GLOBAL_VIEWS
from spatialdino_core.pretrain.parameters import PretrainParameters
from spatialdino_core.pretrain.prototypes import PrototypeUse
from spatialdino_core.pretrain.teacher_output import TeacherOutput

PERSISTENCE = 3
UNIFORM_LOSS_TOLERANCE = 0.02
MIN_INFORMATION = 0.02
UNIFORM_ENTROPY = 0.5
MAX_COSINE = 0.95
MIN_RANK_SHARE = 0.1
MIN_SAMPLES_PER_PROTOTYPE = 1 / 32
PLACES = ("class", "patch")


class CollapseMonitor:
    """Watches every step, and says at each examination which kinds of collapse hold.

    An alarm is raised when its condition holds in three examinations in a row after the warm-up, and lowered
    as soon as it does not. Each has the form ``name:place``, place being ``class`` or ``patch``.

    Alarms
    ------
    uniform-collapse
        Targets carry less than 2 % of ln K nats about what they are the targets of, and their entropy is
        above half of ln K; or the class loss stayed within 2 % of ln K, which is what a student that knows
        nothing gets, for ``uniform_alarm_steps`` steps.
    point-collapse
        Targets carry as little information, at an entropy below half of ln K: few prototypes, the same
        for all.
    dimensional-collapse
        Mean cosine between tokens above 0.95, or RankMe below a tenth of what their width and number allow.
    too-few-samples
        Under Sinkhorn-Knopp, a micro-batch has fewer than one class token for 32 prototypes, which is known
        before the first step (DINOv2 and DINOv3 train with one for about 16 and 32); or the class loss
        stays at ln K although the targets carry information: it is information that cannot be learned.
    """

    def __init__(self, parameters: PretrainParameters) -> None:
        self.parameters = parameters
        self.max_entropy = math.log(parameters.prototypes)
        self.uniform_steps = 0
        self.held: dict[str, int] = {}
        self.raised: list[str] = self._known_before()
        self.use = {place: PrototypeUse(parameters.prototypes) for place in PLACES}

    def observe(self, step: int, dino_loss: float, teacher_output: TeacherOutput) -> None:
        """Take note of one step: its class loss (nats), and the targets of any of its micro-batches."""
        near = abs(dino_loss - self.max_entropy) < UNIFORM_LOSS_TOLERANCE * self.max_entropy
        self.uniform_steps = self.uniform_steps + 1 if near and step >= self.parameters.warmup_steps else 0
        self.use["class"].observe(teacher_output.class_targets)
        self.use["patch"].observe(teacher_output.patch_targets)

    def figures(self) -> dict[str, float]:
        """Shares of dead prototypes (NaN while too few samples were seen), steps at ln K, and ln K (nats)."""
        return {
            "class_dead_prototypes": self.use["class"].dead(),
            "patch_dead_prototypes": self.use["patch"].dead(),
            "uniform_steps": float(self.uniform_steps),
            "uniform_loss": self.max_entropy,
        }

    def alarms(self, step: int, figures: dict[str, float]) -> list[str]:
        """Judge one examination.

        Parameters
        ----------
        step
            Finished steps.
        figures
            `batch_figures` of this step, updated with the figures of the `Examination`: targets are judged
            as the student gets them, tokens on the held-out views.

        Returns
        -------
        list of str
            The alarms that are up, also in ``raised`` until the next examination.
        """
        if step <= self.parameters.warmup_steps:
            return self.raised
        signs = [sign for place in PLACES for sign in self._signs(place, figures)]
        # Targets that jump from one collapse to another have collapsed all the while: counted by what is ill.
        self.held = {where: self.held.get(where, 0) + 1 for where, _ in signs}
        raised = {f"{name}:{where.split()[0]}" for where, name in signs if self.held[where] >= PERSISTENCE}
        if self.uniform_steps >= self.parameters.uniform_alarm_steps:
            raised.add(f"{self._uniform_loss(figures)}:class")
        self.raised = sorted(raised.union(self._known_before()))
        return self.raised

    @property
    def has_collapsed(self) -> bool:
        """Whether one of the alarms that are up is a collapse; the others are warnings."""
        return any("-collapse:" in name for name in self.raised)

    def _known_before(self) -> list[str]:
        """What the recipe alone tells."""
        recipe = self.parameters
        samples = GLOBAL_VIEWS * recipe.batch_size / recipe.accumulation
        starves = recipe.targets == "sinkhorn" and samples < MIN_SAMPLES_PER_PROTOTYPE * recipe.prototypes
        return ["too-few-samples:class"] if starves else []

    def _signs(self, place: str, figures: dict[str, float]) -> Iterator[tuple[str, str]]:
        """What is ill, and the name of its collapse."""
        if figures[f"{place}_target_information"] < MIN_INFORMATION * self.max_entropy:
            is_uniform = figures[f"{place}_target_entropy"] > UNIFORM_ENTROPY * self.max_entropy
            yield f"{place} targets", "uniform-collapse" if is_uniform else "point-collapse"
        if figures[f"{place}_cosine"] > MAX_COSINE or figures[f"{place}_rank_share"] < MIN_RANK_SHARE:
            yield f"{place} tokens", "dimensional-collapse"

    def _uniform_loss(self, figures: dict[str, float]) -> str:
        """Why the class loss stays at ln K."""
        is_told = figures["class_target_information"] >= MIN_INFORMATION * self.max_entropy
        return "too-few-samples" if is_told and self.parameters.targets == "sinkhorn" else "uniform-collapse"

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs."""
        return {
            "uniform_steps": self.uniform_steps,
            "held": dict(self.held),
            "raised": list(self.raised),
            "use": {place: use.state_dict() for place, use in self.use.items()},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go back to a saved state."""
        self.uniform_steps, self.held = state["uniform_steps"], dict(state["held"])
        self.raised = list(state["raised"])
        for place, use in self.use.items():
            use.load_state_dict(state["use"][place])
