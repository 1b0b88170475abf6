"""Golden values: what each stage makes of tiny fixed inputs, kept beside the version of its results.

A stage whose results moved while its version did not fails its test. Raise the version in
``spatialdino_core/versions.py`` and run ``make golden``: values of stages whose version was raised are
written anew, all others are left alone. Messages, labels and colours are no results and are not kept.
"""

from __future__ import annotations

import ast
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, is_dataclass
from pathlib import Path
from typing import Any

import coverage
import numpy as np
import pandas as pd
import pytest

import spatialdino_core
from spatialdino_core.versions import STAGES

CORE = Path(spatialdino_core.__file__).parent
VALUES = Path(__file__).parent / "values"
LEAST_SHARE = 0.9
TOLERANCE = 1e-3
"""Relative, beside the largest value of an array: processors round differently, and sums of many more so."""
DIGITS = 7
"""Significant ones that are kept."""
COMPILED = ("njit", "jit", "vectorize", "guvectorize")
"""Decorators of functions whose lines Python does not run."""


@dataclass
class Stage:
    """One stage's golden test: its scenes, and the modules whose lines they have to run.

    Attributes
    ----------
    name
        A key of `STAGES`.
    modules
        Files of the core, as globs relative to it, that are the stage's own.
    """

    name: str
    modules: Sequence[str]
    scenes: dict[str, Callable[[Path], Mapping[str, Any]]] = field(default_factory=dict)

    def scene(self, make: Callable[[Path], Mapping[str, Any]]) -> Callable[[Path], Mapping[str, Any]]:
        """Register a function that takes an empty folder and returns what is kept, by name.

        Arrays, tables, dataclasses, numbers, truth values, short words and nested containers of them.
        """
        self.scenes[make.__name__] = make
        return make

    def files(self) -> list[Path]:
        """The stage's own modules."""
        return sorted({path for pattern in self.modules for path in CORE.glob(pattern)})

    def check(self, folder: Path, *, write: bool) -> None:
        """Run all scenes; compare with the kept values, or write them where the version was raised."""
        with lines_run(self.files()) as run:
            found = {}
            for name, make in self.scenes.items():
                (folder / name).mkdir()
                found[name] = plain(make(folder / name))
        self._compare(json.loads(json.dumps(found)), write=write)
        share, missing = coverage_of(self.files(), run)
        assert share >= LEAST_SHARE, (
            f"the golden test of {self.name} runs {share:.1%} of its lines; not these: {missing}"
        )

    def _compare(self, found: dict[str, Any], *, write: bool) -> None:
        path = VALUES / f"{self.name}.json"
        kept = json.loads(path.read_text()) if path.exists() else {"version": None, "values": {}}
        version = STAGES[self.name].version
        if write and kept["version"] != version:
            content = {"version": version, "values": found}
            path.write_text(text_of(content), encoding="utf-8")
            return
        moved = list(differences(kept["values"], found))
        if kept["version"] != version:
            pytest.fail(f"{self.name} has version {version}, its values {kept['version']}: make golden")
        if moved:
            pytest.fail(
                f"results of {self.name} moved: raise its version in spatialdino_core/versions.py, then "
                "make golden.\n" + "\n".join(moved[:20])
            )


def text_of(content: Mapping[str, Any]) -> str:
    """JSON with one line for each result of a scene."""

    def short(value: Any) -> str:
        return json.dumps(value, ensure_ascii=False)

    def lines(items: Mapping[str, Any], written: Callable[[Any], str]) -> str:
        return "{\n" + ",\n".join(f"{short(name)}: {written(value)}" for name, value in items.items()) + "\n}"

    def scene_lines(scene: Any) -> str:
        return lines(scene, short) if isinstance(scene, Mapping) else short(scene)

    scenes = lines(content["values"], scene_lines)
    return lines({"version": short(content["version"]), "values": scenes}, str) + "\n"


def plain(value: Any) -> Any:
    """JSON of a result: numbers of arrays instead of arrays."""
    if isinstance(value, pd.DataFrame):
        return {"columns": list(map(str, value.columns))} | {str(n): plain(value[n]) for n in value.columns}
    if isinstance(value, pd.Series):
        return plain(value.to_numpy())
    if is_dataclass(value) and not isinstance(value, type):
        return plain(asdict(value))
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if hasattr(value, "detach"):
        value = value.detach().float().cpu().numpy()
    if isinstance(value, np.ndarray):
        return numbers_of(value)
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, str | bool | int | type(None)):
        return value
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else str(value)
    if isinstance(value, Sequence | set | frozenset):
        return [plain(item) for item in (sorted(value) if isinstance(value, set | frozenset) else value)]
    raise TypeError(f"no golden value of a {type(value)}")


def numbers_of(array: np.ndarray) -> dict[str, Any]:
    """An array in few numbers, of which one tells where things are; short ones as they are."""
    about: dict[str, Any] = {"shape": list(array.shape), "dtype": str(array.dtype)}
    if array.dtype.kind not in "biuf":
        return about | {"values": [plain(item) for item in array.ravel().tolist()]}
    flat = array.astype(np.float64).ravel()
    finite = np.isfinite(flat)
    if flat.size <= 12:
        return about | {"values": [plain(item) for item in flat.tolist()]}
    known = np.where(finite, flat, 0)
    # Golden ratio: weights spread evenly over [0, 1), no two places have the same.
    weights = np.modf(np.arange(1, flat.size + 1) * 0.6180339887498949)[0]
    return about | {
        "finite": int(finite.sum()),
        "scale": plain(np.abs(known).max()),
        "min": plain(known.min()),
        "max": plain(known.max()),
        "mean": plain(known.mean()),
        "rms": plain(np.sqrt(np.mean(known**2))),
        "placed": plain(np.mean(known * weights)),
    }


def differences(kept: Any, found: Any, where: str = "", scale: float = 0.0) -> Iterator[str]:
    """Where two results differ by more than the tolerance."""
    if isinstance(kept, dict) and isinstance(found, dict):
        scale = abs(kept.get("scale", 0.0)) if "placed" in kept else 0.0
        for name in [*kept, *(name for name in found if name not in kept)]:
            if name not in kept or name not in found:
                yield f"{where}.{name}: only {'found' if name in found else 'kept'}"
            else:
                yield from differences(kept[name], found[name], f"{where}.{name}", scale)
    elif isinstance(kept, list) and isinstance(found, list) and len(kept) == len(found):
        for number, pair in enumerate(zip(kept, found, strict=True)):
            yield from differences(*pair, f"{where}[{number}]", scale)
    elif not _same(kept, found, scale):
        yield f"{where}: kept {kept!r}, found {found!r}"


def _same(kept: Any, found: Any, scale: float) -> bool:
    numbers = (int, float)
    if not isinstance(kept, numbers) or not isinstance(found, numbers) or isinstance(kept, bool):
        return bool(kept == found)
    return math.isclose(kept, found, rel_tol=TOLERANCE, abs_tol=max(TOLERANCE * scale, 1e-9))


@contextmanager
def lines_run(files: Sequence[Path]) -> Iterator[dict[Path, set[int]]]:
    """Lines of these files that are run inside the block; filled when it ends."""
    watch = coverage.Coverage(data_file=None, include=[str(path) for path in files], config_file=False)
    run: dict[Path, set[int]] = {}
    watch.start()
    try:
        yield run
    finally:
        watch.stop()
        data = watch.get_data()
        run |= {path: set(data.lines(str(path)) or []) for path in files}


def coverage_of(files: Sequence[Path], run: Mapping[Path, set[int]]) -> tuple[float, dict[str, list[int]]]:
    """Share of the statements inside functions that were run, and the lines of those that were not."""
    wanted = {path: statements(path) for path in files}
    missing = {
        str(path.relative_to(CORE)): sorted(lines - run[path])
        for path, lines in wanted.items()
        if lines - run[path]
    }
    total = sum(map(len, wanted.values()))
    return 1 - sum(map(len, missing.values())) / max(1, total), missing


def statements(path: Path) -> set[int]:
    """Lines on which statements of functions begin: not those of modules and classes, which an import runs,
    not documentation, not functions that are compiled.
    """
    found: set[int] = set()
    for function in functions_of(ast.parse(path.read_text(encoding="utf-8"))):
        for node in function.body:
            found |= {n.lineno for n in ast.walk(node) if isinstance(n, ast.stmt) and not _documents(n)}
    return found


def functions_of(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Functions that Python itself runs."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            decorators = {ast.unparse(d).split("(")[0].split(".")[-1] for d in node.decorator_list}
            if not decorators & set(COMPILED):
                yield node


def _documents(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
