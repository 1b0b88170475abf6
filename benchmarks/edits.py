"""What edits of the code cost: cosmetic ones plan nothing, real ones fail a golden test.

    python benchmarks/edits.py [--seed 0] [--cosmetic 12] [--real 20] [--table benchmarks/results/edits.md]

Edits are drawn by a seeded script over all rooms of the core, one by one, in a copy of this checkout. A
*cosmetic* one changes a comment, a docstring, a message, a label or the name of a local variable; the plan of
a finished run must stay empty. A *real* one changes a number, a sign, a comparison or an order in a function
that the golden tests watch; one of them has to fail, and with the version of its stage raised, that stage and
what follows have to be planned, nothing else. A seed takes some twenty minutes on two cores.
"""

from __future__ import annotations

import argparse
import ast
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "golden")]

from golden import CORE, Stage, functions_of, statements  # noqa: E402

from spatialdino_core.movies import provenance  # noqa: E402
from spatialdino_core.versions import STAGES  # noqa: E402
from tests.workflow.conftest import make_project  # noqa: E402

COPIED = ("rules", "envs", "profiles", "spatialdino_core", "workflow_scripts", "weights", "tests")
TRACKING = ["track", "report", "summary"]
PLANS = {
    "register": ["register", "preview", "review"],
    "preview": ["preview", "review"],
    "review": ["review"],
    "deskew": ["deskew", "features", "segment", *TRACKING],
    "shard": ["shard", "pretrain", "repair", "features", "segment", *TRACKING],
    "pretrain": ["pretrain", "repair", "features", "segment", *TRACKING],
    "repair": ["repair", "features", "segment", *TRACKING],
    "features": ["features", "segment", *TRACKING],
    "segment": ["segment", *TRACKING],
    "track": TRACKING,
    "report": ["report", "summary"],
    "summary": ["summary"],
}
"""Rules that are planned when a stage's version is raised; the review before all else."""
OPERATORS: dict[type, type] = {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult}
COMPARISONS: dict[type, type] = {
    ast.Lt: ast.GtE, ast.LtE: ast.Gt, ast.Gt: ast.LtE, ast.GtE: ast.Lt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
}  # fmt: skip
LABELS = (
    "print",
    "progress",
    "set_xlabel",
    "set_ylabel",
    "set_title",
    "Fact",
    "Illustration",
    "BadInputError",
)


@dataclass(frozen=True)
class Edit:
    """A change of one file."""

    path: Path
    line: int
    kind: str
    before: str
    after: str
    text: str

    def __str__(self) -> str:
        return f"`{self.path}`:{self.line}, {self.kind}"


def real_edits(path: Path) -> Iterator[Edit]:
    """Changes of a number, a sign, a comparison or an order in functions whose lines golden tests watch."""
    source = (ROOT / path).read_text(encoding="utf-8")
    tree = ast.parse(source)
    watched = statements(ROOT / path)
    skipped = {id(inner) for node in ast.walk(tree) if _no_result(node) for inner in ast.walk(node)}
    for function in functions_of(tree):
        for node in [n for statement in function.body for n in ast.walk(statement)]:
            if id(node) in skipped or getattr(node, "lineno", None) not in watched:
                continue
            for kind, changed in _changed(node):
                yield from _replaced(path, source, node, kind, ast.unparse(changed))


def _no_result(node: ast.AST) -> bool:
    """Messages and annotations: a number in them is no result."""
    if isinstance(node, ast.Raise | ast.JoinedStr | ast.AnnAssign | ast.Assert):
        return not isinstance(node, ast.AnnAssign)
    return isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in LABELS


def _changed(node: ast.AST) -> Iterator[tuple[str, ast.expr]]:
    if isinstance(node, ast.Constant) and type(node.value) in (int, float):
        value = node.value * 1.1 if isinstance(node.value, float) and node.value else node.value + 1
        yield "a constant", ast.Constant(value)
    if isinstance(node, ast.BinOp) and type(node.op) in OPERATORS:
        yield "a sign", ast.BinOp(node.left, OPERATORS[type(node.op)](), node.right)
        if isinstance(node.op, ast.Sub | ast.Div):
            yield "an order", ast.BinOp(node.right, node.op, node.left)
    if isinstance(node, ast.Compare) and len(node.ops) == 1 and type(node.ops[0]) in COMPARISONS:
        yield "a comparison", ast.Compare(node.left, [COMPARISONS[type(node.ops[0])]()], node.comparators)


def cosmetic_edits(path: Path) -> Iterator[Edit]:
    """Changes of comments, documentation, messages, labels and names of local variables."""
    source = (ROOT / path).read_text(encoding="utf-8")
    tree = ast.parse(source)
    for number, line in enumerate(source.splitlines(), start=1):
        if line.strip().startswith("# "):
            yield _with_line(path, source, number, "a comment", line + " Indeed.")
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Expr)
            and isinstance(node.value, ast.Constant)
            and isinstance(node.value.value, str)
        ):
            words = node.value.value.replace("\\", "\\\\").rstrip() + "\n\nAnother sentence.\n"
            yield from _replaced(path, source, node, "documentation", f'"""{words}"""')
        if isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in LABELS:
            for text in [
                a for a in ast.walk(node) if isinstance(a, ast.Constant) and isinstance(a.value, str)
            ]:
                if " " in text.value and _stands_alone(source, text):
                    yield from _replaced(
                        path, source, text, "a message or label", repr(text.value + " Well.")
                    )
    for function in functions_of(tree):
        yield from _renamed(path, source, function)


def _renamed(path: Path, source: str, function: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[Edit]:
    nodes = [node for node in ast.walk(function) if node is not function]
    if any(isinstance(node, ast.FunctionDef | ast.Lambda | ast.Global | ast.Nonlocal) for node in nodes):
        return
    lines = source.splitlines()
    first, last = function.body[0].lineno, function.end_lineno or function.lineno
    body = "\n".join(lines[first - 1 : last])
    names = [node for node in nodes if isinstance(node, ast.Name)]
    for name in sorted({node.id for node in names if isinstance(node.ctx, ast.Store)}):
        # Only where the word is nothing but that variable: no keyword argument, attribute or text.
        if len(re.findall(rf"\b{name}\b", body)) == sum(node.id == name for node in names):
            changed = re.sub(rf"\b{name}\b", f"{name}_renamed", body)
            text = "\n".join([*lines[: first - 1], changed, *lines[last:]]) + "\n"
            yield Edit(path, first, "the name of a local variable", name, f"{name}_renamed", text)


def _stands_alone(source: str, node: ast.Constant) -> bool:
    written = ast.get_source_segment(source, node) or ""
    return written[:1] in "'\"" and written.count(written[0]) == 2 and "\n" not in written


def _replaced(path: Path, source: str, node: ast.AST, kind: str, after: str) -> Iterator[Edit]:
    before = ast.get_source_segment(source, node)
    if before is None or not hasattr(node, "lineno"):
        return
    lines = source.splitlines(keepends=True)
    start = sum(len(line.encode()) for line in lines[: node.lineno - 1]) + node.col_offset
    data = source.encode()
    wrapped = after if kind in ("documentation", "a message or label") else f"({after})"
    text = (data[:start] + wrapped.encode() + data[start + len(before.encode()) :]).decode()
    try:
        ast.parse(text)
    except SyntaxError:
        return
    yield Edit(path, node.lineno, kind, before, after, text)


def _with_line(path: Path, source: str, number: int, kind: str, line: str) -> Edit:
    lines = source.splitlines()
    before, lines[number - 1] = lines[number - 1], line
    return Edit(path, number, kind, before.strip(), line.strip(), "\n".join(lines) + "\n")


def drawn(edits: dict[str, list[Edit]], number: int, chance: random.Random) -> list[Edit]:
    """Edits of as many rooms and kinds as possible: rooms in a random order, a random kind, a random edit."""
    found: list[Edit] = []
    while len(found) < number:
        for room in chance.sample(sorted(edits), len(edits)):
            kinds = sorted({edit.kind for edit in edits[room]})
            kind = chance.choice(kinds)
            found.append(chance.choice([edit for edit in edits[room] if edit.kind == kind]))
    return found[:number]


class Checkout:
    """A copy of this checkout that may be edited, and a finished run beside it."""

    def __init__(self, folder: Path) -> None:
        self.software, self.project = folder / "software", folder / "project"
        for name in COPIED:
            shutil.copytree(ROOT / name, self.software / name, ignore=shutil.ignore_patterns("__pycache__"))
        for name in ("Snakefile", "config.yaml", "pyproject.toml"):
            shutil.copy(ROOT / name, self.software)
        make_project(self.project)
        self.snakemake()

    def snakemake(self, *arguments: str) -> str:
        """Output of the workflow on the project, run by the software in its folder."""
        command = [sys.executable, "-m", "snakemake", "--snakefile", str(self.software / "Snakefile")]
        command += ["--profile", str(self.software / "profiles" / "default"), "--configfile", "settings.yaml"]
        done = self._run([*command, *arguments], self.project)
        if done.returncode:
            raise RuntimeError(done.stdout)
        return done.stdout

    def planned(self) -> set[str]:
        """Rules of which a run would start jobs."""
        lines = [line.split() for line in self.snakemake("--dry-run", "--quiet", "rules").splitlines()]
        counted = {line[0] for line in lines if len(line) == 2 and line[1].isdigit()}
        return counted - {"all", "total"}

    def failing(self, stages: list[str]) -> list[str]:
        """Those of these stages whose golden tests fail."""
        failed = []
        for stage in stages:
            test = f"tests/golden/test_golden_{stage}.py"
            done = self._run([sys.executable, "-m", "pytest", "-q", "-x", "-n", "0", test], self.software)
            failed += [stage] if done.returncode else []
        return failed

    def _run(self, command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
        environment = os.environ | {
            "PYTHONPATH": str(self.software),
            "OMP_NUM_THREADS": "1",
            "COLUMNS": "200",
        }
        return subprocess.run(
            command, cwd=folder, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )

    def edited(self, edit: Edit) -> None:
        (self.software / edit.path).write_text(edit.text, encoding="utf-8")

    def restore(self, edit: Edit) -> None:
        shutil.copy2(ROOT / edit.path, self.software / edit.path)
        shutil.copy2(
            ROOT / "spatialdino_core" / "versions.py", self.software / "spatialdino_core" / "versions.py"
        )

    def raise_versions(self, stages: list[str]) -> None:
        path = self.software / "spatialdino_core" / "versions.py"
        text = path.read_text()
        for stage in stages:
            now = STAGES[stage]
            text = text.replace(f'"{now.module}", {now.version})', f'"{now.module}", {now.version + 1})')
        path.write_text(text)


def by_room(paths: list[Path], kind: str) -> dict[str, list[Edit]]:
    """All possible edits of a kind, by room."""
    found: dict[str, list[Edit]] = {}
    for path in paths:
        edits = list(real_edits(path) if kind == "real" else cosmetic_edits(path))
        found.setdefault(path.parts[1], []).extend(edits)
    return {room: edits for room, edits in found.items() if edits}


def stages_of(path: Path) -> list[str]:
    """Stages that run a module."""
    name = ".".join(path.with_suffix("").parts).removesuffix(".__init__")
    return [stage for stage, about in STAGES.items() if name in provenance._closure(about.module)]


def watched_modules() -> list[Path]:
    """Modules that belong to a stage's golden test."""
    import importlib

    found: set[Path] = set()
    for test in sorted((ROOT / "tests" / "golden").glob("test_golden_*.py")):
        module = importlib.import_module(test.stem)
        found |= {p for value in vars(module).values() if isinstance(value, Stage) for p in value.files()}
    return sorted(path.relative_to(ROOT) for path in found)


def try_cosmetic(checkout: Checkout, edit: Edit) -> str:
    checkout.edited(edit)
    planned = checkout.planned()
    checkout.restore(edit)
    return f"| {edit} | `{_cell(edit.before)}` | {', '.join(sorted(planned)) or 'nothing'} |"


def try_real(checkout: Checkout, edit: Edit) -> str:
    checkout.edited(edit)
    failed = checkout.failing(stages_of(edit.path))
    if not failed:
        checkout.restore(edit)
        return f"| {edit} | `{_cell(edit.before)}` → `{_cell(edit.after)}` | **none** | – |"
    checkout.raise_versions(failed)
    planned = checkout.planned()
    checkout.restore(edit)
    expected = expected_plan(failed)
    verdict = "as expected" if planned == expected else f"**expected {', '.join(sorted(expected))}**"
    outcome = f"{', '.join(failed)} | {', '.join(r for r in STAGES if r in planned)} ({verdict})"
    return f"| {edit} | `{_cell(edit.before)}` → `{_cell(edit.after)}` | {outcome} |"


def expected_plan(stages: list[str]) -> set[str]:
    """Rules that raising the versions of these stages has to plan; the review before all else."""
    reviewed = [stage for stage in stages if stage in ("register", "preview", "review")]
    return {rule for stage in reviewed or stages for rule in PLANS[stage]}


def _cell(text: str) -> str:
    short = " ".join(text.split())
    return (short if len(short) <= 60 else short[:57] + "…").replace("|", "\\|").replace("`", "'")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cosmetic", type=int, default=12)
    parser.add_argument("--real", type=int, default=20)
    parser.add_argument("--table", type=Path, default=ROOT / "build" / "benchmarks" / "edits.md")
    options = parser.parse_args()
    chance = random.Random(options.seed)
    everywhere = sorted(path.relative_to(ROOT) for path in CORE.rglob("*.py"))
    cosmetic = drawn(by_room(everywhere, "cosmetic"), options.cosmetic, chance)
    real = drawn(by_room(watched_modules(), "real"), options.real, chance)
    with tempfile.TemporaryDirectory() as folder:
        checkout = Checkout(Path(folder))
        lines = [f"Seed {options.seed}.", "", "| cosmetic edit | of | planned |", "|---|---|---|"]
        lines += [_said(try_cosmetic(checkout, edit)) for edit in cosmetic]
        lines += ["", "| real edit | change | golden tests that fail | planned with their versions raised |"]
        lines += ["|---|---|---|---|", *(_said(try_real(checkout, edit)) for edit in real)]
    options.table.parent.mkdir(parents=True, exist_ok=True)
    options.table.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _said(line: str) -> str:
    print(line, flush=True)
    return line


if __name__ == "__main__":
    main()
