"""The workflow as Snakemake and its users want it written."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.workflow.conftest import ROOT, Project, make_project

pytestmark = pytest.mark.workflow


@pytest.fixture(scope="module")
def unrun(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return make_project(tmp_path_factory.mktemp("unrun") / "project")


def test_snakemake_has_nothing_to_complain_about(unrun: Project) -> None:
    done = unrun.run("--lint", check=False)
    assert done.returncode == 0, done.stdout
    assert "Lints for" not in done.stdout


@pytest.mark.parametrize("profile", ["profiles/default", "slurm"])
def test_both_profiles_plan_the_run(unrun: Project, profile: str) -> None:
    """``--profile slurm`` is found through the link in the root, next to the Snakefile."""
    command = [sys.executable, "-m", "snakemake", "--profile", profile, "--dry-run", "--quiet", "rules"]
    command += ["--configfile", "settings.yaml", "--directory", str(unrun.folder)]
    settings = unrun.folder / "settings.yaml"
    command[command.index("settings.yaml")] = str(settings)
    done = subprocess.run(command, cwd=ROOT, text=True, capture_output=True)
    assert done.returncode == 0, done.stderr
    assert "review" in done.stdout + done.stderr


def test_every_rule_has_what_a_cluster_and_a_reader_need() -> None:
    for path in sorted((ROOT / "rules").glob("*.smk")):
        text = path.read_text()
        for rule in text.split("\nrule ")[1:]:
            assert "log:" in rule, path
            if "localrule: True" not in rule:
                for directive in (
                    "benchmark:",
                    "threads:",
                    "resources:",
                    "mem_mb=",
                    "runtime=",
                    "params:",
                    "conda:",
                ):
                    assert directive in rule, (path, directive)


def test_the_conda_environment_has_the_pins_of_the_constraints() -> None:
    pins = {}
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        name, _, version = line.partition("==")
        pins[name.lower().replace("_", "-")] = version
    environment = yaml.safe_load((ROOT / "envs" / "cpu.yaml").read_text())
    listed = dict(item.split("==") for item in environment["dependencies"][-1]["pip"])
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = {requirement.split(">")[0].split("=")[0] for requirement in project["dependencies"]}
    assert set(listed) == needed
    assert listed == {name: pins[name] for name in needed}


@pytest.mark.parametrize("path", sorted((ROOT / "recipes").glob("*.yaml")), ids=lambda path: path.stem)
def test_recipes_name_only_what_differs_and_starve_no_prototype(path: Path) -> None:
    from spatialdino_core.config import load_config
    from spatialdino_core.pretrain.monitor import CollapseMonitor

    needed = {"movies": "movies.tsv", "results": "results"}
    recipe = yaml.safe_load(path.read_text())
    for key, default, value in differences(asdict(load_config(needed)), recipe):
        assert default != value, key
    config = load_config(needed | recipe)
    assert CollapseMonitor(config.pretrain).raised == []
    assert config.crops.crop_voxels >= config.pretrain.global_crop_voxels


def differences(
    defaults: dict[str, Any], recipe: dict[str, Any], above: str = ""
) -> Iterator[tuple[str, Any, Any]]:
    for name, value in recipe.items():
        if isinstance(value, dict):
            yield from differences(defaults[name], value, f"{above}{name}.")
        else:
            yield f"{above}{name}", defaults[name], value


def test_scripts_are_thin() -> None:
    for path in (ROOT / "workflow_scripts").glob("*.py"):
        assert len(path.read_text().splitlines()) <= 70, path


def test_no_key_stands_in_both_profiles() -> None:
    """Snakemake loads profiles/default beside every other profile and lets it win key by key."""
    keys = [
        set(yaml.safe_load((ROOT / "profiles" / p / "config.yaml").read_text())) for p in ("default", "slurm")
    ]
    assert not keys[0] & keys[1]
