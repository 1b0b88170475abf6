"""The launcher of a training on several nodes, without Slurm: two of them on the loopback interface."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

import pandas as pd
import psutil
import pytest
import torch
import yaml
from safetensors.torch import load_file

from spatialdino_core.config import load_config
from tests.workflow.conftest import ROOT, Project

pytestmark = pytest.mark.workflow
STEPS = 12


def command(project: Project, output: Path, **changes: int) -> list[str]:
    """What the rule of pretraining runs, behind its launcher."""
    config = load_config(yaml.safe_load((project.folder / "settings.yaml").read_text()))
    settings = {name: asdict(getattr(config, name)) for name in ("pretrain", "encoder", "normalisation")}
    settings["pretrain"] |= {"steps": STEPS, "log_interval_steps": 1, **changes}
    settings |= {"crops": asdict(config.crops), "seed": config.seed, "device": "cpu"}  # type: ignore[dict-item]
    shards = str(project.results / "shards")
    words = ["--shards", shards, "--movies", "series", "--output", str(output), "--name", "1"]
    return ["-m", "workflow_scripts.pretrain", *words, "--settings", json.dumps(settings)]


def environment(**more: str) -> dict[str, str]:
    common = {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo", "PYTHONPATH": str(ROOT)}
    return os.environ | common | more


def start_node(number: int, job: int, training: list[str], log: Path) -> subprocess.Popen[bytes]:
    """What srun starts on a node, told what Slurm tells it."""
    slurm = {
        "SLURM_JOB_ID": str(job),
        "SLURM_LAUNCH_NODE_IPADDR": "127.0.0.1",
        "SLURM_NODEID": str(number),
    }
    launcher = ["-m", "workflow_scripts.one_of_several_nodes", "--nnodes=2", "--nproc-per-node=1"]
    with log.open("wb") as file:
        return subprocess.Popen(
            [sys.executable, *launcher, *training],
            env=environment(**slurm),
            stdout=file,
            stderr=file,
            start_new_session=True,
        )


def train_on_two_nodes(project: Project, output: Path) -> list[subprocess.Popen[bytes]]:
    output.parent.mkdir(parents=True, exist_ok=True)
    job = os.getpid() + len(list(output.parent.glob("*.log")))
    return [
        start_node(node, job, command(project, output, nodes=2), output.parent / f"node-{job}-{node}.log")
        for node in range(2)
    ]


def ends(nodes: list[subprocess.Popen[bytes]], seconds: float = 240) -> list[int]:
    try:
        return [node.wait(seconds) for node in nodes]
    finally:
        for node in nodes:
            if node.poll() is None:
                os.killpg(node.pid, signal.SIGKILL)


@pytest.fixture(scope="module")
def alone(finished: Project, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same training in one process."""
    output = tmp_path_factory.mktemp("alone") / "pretrained.safetensors"
    subprocess.run(
        [sys.executable, *command(finished, output)], check=True, env=environment(), capture_output=True
    )
    return output


def difference(one: Path, other: Path) -> float:
    """Norm of the difference of two sets of weights over the norm of the weights."""
    first, second = (torch.cat([w.flatten() for w in load_file(p).values()]) for p in (one, other))
    return float((first - second).norm() / first.norm())


@pytest.fixture(scope="module")
def together(finished: Project, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("together") / "pretrained.safetensors"
    assert ends(train_on_two_nodes(finished, output)) == [0, 0]
    return output


def test_two_nodes_learn_what_one_process_learns(alone: Path, together: Path) -> None:
    losses = ["loss", "dino_loss", "ibot_loss", "koleo_loss"]
    tables = [pd.read_csv(path.parent / "metrics.csv") for path in (alone, together)]
    pd.testing.assert_frame_equal(tables[0][losses], tables[1][losses], rtol=1e-4)
    assert difference(alone, together) < 1e-4


def test_a_warning_on_one_node_ends_both_and_they_go_on(
    finished: Project, together: Path, tmp_path: Path
) -> None:
    """As Slurm warns before the time limit: every process of a node gets USR1, the launcher included."""
    output = tmp_path / "pretrained.safetensors"
    nodes = train_on_two_nodes(finished, output)
    wait_for_step(output, nodes)
    for process in [psutil.Process(nodes[1].pid), *psutil.Process(nodes[1].pid).children(recursive=True)]:
        process.send_signal(signal.SIGUSR1)
    assert 0 not in ends(nodes)
    said = "".join(log.read_text() for log in tmp_path.glob("*.log"))
    stopped = re.search(r"stopped at step (\d+) by", said)
    assert stopped, said
    assert 0 < int(stopped[1]) < STEPS
    assert ends(train_on_two_nodes(finished, output)) == [0, 0]
    assert output.read_bytes() == together.read_bytes()


def wait_for_step(output: Path, nodes: list[subprocess.Popen[bytes]], seconds: float = 120) -> None:
    """Until training is at its first checkpoint."""
    end = time.monotonic() + seconds
    while not list((output.parent / "checkpoints").rglob("step-*.pt")):
        assert all(node.poll() is None for node in nodes)
        assert time.monotonic() < end
        time.sleep(0.02)
