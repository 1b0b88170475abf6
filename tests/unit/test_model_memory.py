"""A model that a machine has no memory to make is refused, with settings that help."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from spatialdino_core.config import load_config
from spatialdino_core.errors import BadInputError
from spatialdino_core.needs import Needs, check_model_memory, encoder_shape, movie_shape

ROOT = Path(__file__).parents[2]
PATHS = {"movies": "movies.tsv", "results": "results"}
TRAIN = """
import json, sys
from pathlib import Path
import numpy as np
from spatialdino_core.config import load_config
from spatialdino_core.crops.source import CropDescription
from spatialdino_core.pretrain.loop import pretrain

config = load_config(json.loads(sys.argv[1]))
side = config.pretrain.global_crop_voxels
crops = [np.random.default_rng(n).random((1, side, side, side)).astype(np.float16) for n in range(4)]
about = CropDescription(voxel_um=(0.1,) * 3, normalisation={}, content_hash="")
pretrain(crops, config.pretrain, config.encoder, Path(sys.argv[2]), description=about)
lines = open("/proc/self/status").read().splitlines()
print("peak", next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024 / 1e6)
"""


def needs(*, gpu: bool = False, **settings: Any) -> Needs:
    config = load_config(PATHS | settings)
    return Needs(config=config, encoder=encoder_shape(config, "no such file"), gpu=gpu)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="Linux tells peaks of memory")
def test_training_with_many_prototypes_takes_what_the_formula_says(tmp_path: Path) -> None:
    """Each patch that is guessed has logits of its own; two layers of the heads are wide, too."""
    recipe = {"steps": 2, "warmup_steps": 1, "batch_size": 8, "global_crop_voxels": 64, "local_crops": 1}
    recipe |= {
        "local_crop_voxels": 16,
        "prototypes": 16384,
        "head_hidden_dim": 512,
        "head_bottleneck_dim": 32,
    }
    settings = {"encoder": {"embed_dim": 32, "depth": 1, "heads": 2}, "pretrain": recipe}
    command = [sys.executable, "-c", TRAIN, json.dumps(PATHS | settings), str(tmp_path)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, text=True, capture_output=True)
    assert done.returncode == 0, done.stderr
    peak = float(done.stdout.rpartition("peak ")[2])
    assert needs(**settings).model_mb("pretrain") == pytest.approx(peak, rel=0.25)


@pytest.mark.parametrize("room_mb", [16_000, 64_000])
def test_the_default_training_is_refused_on_a_laptop_with_settings_that_fit(room_mb: int) -> None:
    with pytest.raises(BadInputError, match="pretrain takes") as refused:
        check_model_memory(needs(), room_mb, ["pretrain", "repair"], {})
    assert "model.source: bundled" in refused.value.remedy
    check_model_memory(as_told(refused.value.remedy), room_mb, ["pretrain", "repair"], {})


def as_told(remedy: str) -> Needs:
    """With the settings that a remedy begins with."""
    told: dict[str, dict[str, Any]] = {}
    for section, key, value in re.findall(r"(\w+)\.(\w+): ([^,;. ]+(?:\.\d+)?)", remedy):
        if section != "model":
            told.setdefault(section, {})[key] = yaml.safe_load(value)
    assert told
    return needs(**told)


def test_the_demo_is_not_refused() -> None:
    demo = yaml.safe_load((ROOT / "recipes" / "demo.yaml").read_text()) | PATHS
    check_model_memory(
        needs(**demo), 4000, ["pretrain", "repair"], {"cell": movie_shape({}, needs().config.deskew)}
    )


def test_repair_and_shards_are_refused_by_their_names_with_settings_that_fit() -> None:
    shape = movie_shape({}, needs().config.deskew)
    given = needs(crops={"crops_per_frame": 60, "crop_voxels": 300})
    for stages, movies, said in (
        (["repair"], {}, "repair takes"),
        ([], {"cell": shape}, "shard of movie 'cell'"),
    ):
        with pytest.raises(BadInputError, match=said) as refused:
            check_model_memory(given, 5000, stages, movies)
        assert "pretrain" not in refused.value.found
        assert "bundled" not in refused.value.remedy
    check_model_memory(as_told(refused.value.remedy), 5000, [], {"cell": shape})


def test_shards_grow_with_crops_that_are_larger_than_the_frame_and_with_their_number() -> None:
    """Short axes are filled up to the side of a crop; crops are kept as two bytes for each voxel."""
    shape = movie_shape({}, needs().config.deskew)

    def shard_mb(**crops: Any) -> float:
        fixed = {"min_size_fraction": 0.0, "max_size_fraction": 0.0}
        return needs(crops=fixed | crops).memory_mb("shard", shape)

    more = shard_mb(crop_voxels=400, crops_per_frame=12) - shard_mb(crop_voxels=400, crops_per_frame=2)
    assert more == pytest.approx(10 * 2 * 400**3 / 1e6)


def test_views_that_wait_for_a_gpu_count() -> None:
    """Two steps of views for each of twelve workers of four processes; 128 crops of two and eight views."""
    recipe = {"processes": 4, "loader_workers": 12}
    views = 128 * (2 * 112**3 + 8 * 48**3) * 4 / 1e6
    assert needs(gpu=True, pretrain=recipe).model_mb("pretrain") > 4 * 24 * views
