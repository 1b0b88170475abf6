"""What made a result: software version, commit, and a hash of the code that a stage runs."""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib.util
import subprocess
from collections.abc import Iterator
from pathlib import Path

import spatialdino_core

PACKAGES = ("spatialdino_core", "workflow_scripts")


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


def software() -> dict[str, str]:
    """Version and commit, for headers and records."""
    return {"software": "spatialdino-workflow", "version": spatialdino_core.__version__, "commit": commit()}


@functools.cache
def code_hash(module: str) -> str:
    """Hash of a module and of every module of ours that it imports, directly or not.

    Computed from the syntax trees with docstrings stripped: comments, formatting, documentation,
    file times and commits do not count, a change of behaviour does.

    Parameters
    ----------
    module
        Dotted name, e.g. ``"workflow_scripts.deskew"``.
    """
    total = hashlib.blake2b(digest_size=8)
    for name in sorted(_closure(module)):
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
