"""What made a result: software, commit, the version of a stage's results and a hash of its code."""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib.util
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import spatialdino_core
from spatialdino_core.versions import STAGES

PACKAGES = ("spatialdino_core",)
NO_CODE = {"spatialdino_core.versions"}
"""What counts by itself: a version that is raised changes no stage's code."""
RerunOn = Literal["version", "code"]
"""What of a stage decides, beside settings and inputs, whether its results are current."""


@functools.cache
def commit() -> str:
    """Commit of the checkout that the package lies in, with ``+changes`` if it is not clean;
    ``unknown`` where there is no checkout or no git."""
    root = Path(spatialdino_core.__file__).resolve().parents[1]
    if not (root / ".git").exists():
        return "unknown"
    try:
        described = subprocess.run(
            [
                "git",
                "-C",
                str(root),
                "describe",
                "--always",
                "--dirty=+changes",
                "--abbrev=12",
                "--exclude=*",
            ],
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return described.stdout.strip()


def software(stage: str | None = None) -> dict[str, str]:
    """Version and commit, for headers and records; of a stage its results' version and code hash, too."""
    about = {"software": "spatialdino-workflow", "version": spatialdino_core.__version__, "commit": commit()}
    if stage is None:
        return about
    return about | {"results_version": identity(stage), "code": stage_code(stage)}


def identity(stage: str, rerun_on: RerunOn = "version") -> str:
    """What a stage's results are current for, beside settings and inputs.

    Parameters
    ----------
    stage
        A key of `versions.STAGES`.
    rerun_on
        ``version``: of its results, alone. ``code``: its code, too, for people who change the science.
    """
    version = str(STAGES[stage].version)
    return version if rerun_on == "version" else f"{version}-{stage_code(stage)}"


def stage_code(stage: str) -> str:
    """Hash of the code of a stage (`code_hash` of its entry in the core)."""
    return code_hash(STAGES[stage].module)


@functools.cache
def code_hash(module: str) -> str:
    """Hash of a module and of every module of ours that it imports, directly or not.

    Computed from the syntax trees with docstrings stripped: comments, formatting, documentation,
    file times and commits do not count, a change of behaviour does.

    Parameters
    ----------
    module
        Dotted name, e.g. ``"spatialdino_core.geometry.stage"``.
    """
    total = hashlib.blake2b(digest_size=8)
    for name in sorted(_closure(module) - NO_CODE):
        total.update(name.encode())
        total.update(_module_hash(name))
    return total.hexdigest()


@functools.cache
def _module_hash(module: str) -> bytes:
    path = _source_path(module)
    total = hashlib.blake2b(ast.dump(_without_docstrings(_tree(module))).encode())
    # Page templates of a package are code of its modules, too.
    if path.name == "__init__.py":
        for template in sorted((path.parent / "templates").glob("*")):
            total.update(template.read_bytes())
    return total.digest()


def _closure(module: str) -> set[str]:
    found: set[str] = set()
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        found.add(name)
        waiting.extend(_imports(name))
        if "." in name:
            waiting.append(name.rpartition(".")[0])  # importing a module runs its packages
    return found


@functools.cache
def _imports(module: str) -> tuple[str, ...]:
    return tuple(sorted({name for name in _imported_names(_tree(module)) if _file(name) is not None}))


def _imported_names(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@functools.cache
def _folder(package: str) -> Path:
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(package)
    return Path(spec.origin).parent


@functools.cache
def _file(name: str) -> Path | None:
    """Source of a module of ours, or None if the name is not one. Nothing is imported to find out: that would
    load torch each time the workflow is planned, and in every job."""
    package, *below = name.split(".")
    if package not in PACKAGES:
        return None
    place = _folder(package).joinpath(*below)
    candidates = (place / "__init__.py", place.with_name(place.name + ".py"))
    return next((path for path in candidates if path.is_file()), None)


def _source_path(module: str) -> Path:
    path = _file(module)
    if path is None:
        raise ModuleNotFoundError(module)
    return path


@functools.cache
def _tree(module: str) -> ast.Module:
    return ast.parse(_source_path(module).read_text(encoding="utf-8"))


def _without_docstrings(tree: ast.Module) -> ast.Module:
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if node.body else None
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
                node.body = node.body[1:]
    return tree
