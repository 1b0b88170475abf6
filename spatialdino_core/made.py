"""What each result was made of, kept beside it: whether it is current is settled by content, nowhere else.

A job that succeeds leaves, for each of its outputs, the digest of its recipe (settings, version of the
stage's results, state of raw files) and those of its inputs and outputs. Names are relative to the output's
folder: results stay current when they are copied, renamed, linked or spelled otherwise, whatever clocks say.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import hashlib
import os
import tempfile
import time
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from spatialdino_core.files import read_json, sampled, sound_json, write_json, write_text
from spatialdino_core.parameters import digest

FOLDER = ".made"
CHANGED = Path(FOLDER, ".changed")
"""File of the results that is newer than any result: an input of each job whose results are not current.

In a folder of its own: Snakemake lists a folder once, when it first looks for a file of it, and would not see
one in the folder of the results that is written later.
"""
MOMENT = 10**9  # ns
LARGE = 2**20  # bytes
WEIGHTS = ".safetensors"


@dataclass(frozen=True)
class Made:
    """How one job made its outputs.

    Attributes
    ----------
    recipe
        Digest of all that it depends on, but its inputs.
    inputs
        Path of each input, relative to the output's folder, to the digest of its content.
    outputs
        Path of each output to its size (bytes) and digest.
    stores
        Names of the stores that a record among the outputs is about.
    samples
        Path of each large table to what is looked at of it (`files.sampled`); earlier releases kept none.
    """

    recipe: str
    inputs: dict[str, str]
    outputs: dict[str, tuple[int, str]]
    stores: list[str] = field(default_factory=list)
    samples: dict[str, str] = field(default_factory=dict)


def remember(recipe: str, inputs: Iterable[str], outputs: Iterable[str]) -> None:
    """Leave beside each output what it was made of."""
    outputs = list(outputs)
    stores = {store for output in outputs if output.endswith(".json") for store in _stores(output)}
    for output in outputs:
        folder = Path(output).parent
        made = Made(
            recipe,
            # One that vanished since its content was read is found missing by the next plan.
            {os.path.relpath(i, folder): content(i) or "" for i in inputs if Path(i).name != CHANGED.name},
            {os.path.relpath(o, folder): (Path(o).stat().st_size, _digest(o)) for o in outputs},
            [os.path.relpath(store, folder) for store in sorted(stores)],
            {os.path.relpath(o, folder): sampled(o, LARGE) for o in outputs if _is_large_table(o)},
        )
        write_json(_place(output), asdict(made))


def content(path: str) -> str | None:
    """Digest of a file; None where there is none. Of a large table with size, head, middle and tail as it was
    made, the digest that it was made with: a plan must not read the tables of hundreds of movies.
    """
    try:
        size = os.stat(path).st_size
    except OSError:
        return None
    made, name = made_of(path) if _is_large_table(path) else None, os.path.basename(path)
    as_large = made is not None and made.outputs[name][0] == size
    if made is not None and as_large and made.samples.get(name) in (None, sampled(path, LARGE)):
        return made.outputs[name][1]
    return _digest(path)


def _is_large_table(path: str) -> bool:
    return os.stat(path).st_size > LARGE and not path.endswith(WEIGHTS)


def made_of(output: str) -> Made | None:
    """What is remembered of an output; None if nothing sound is."""
    try:
        found = sound_json(_place(output))
        outputs = {name: (int(size), str(kept)) for name, (size, kept) in found["outputs"].items()}
        if os.path.basename(output) not in outputs:
            return None
        stores, samples = list(found.get("stores", [])), dict(found.get("samples", {}))
        return Made(str(found["recipe"]), dict(found["inputs"]), outputs, stores, samples)
    except (LookupError, TypeError, ValueError, AttributeError):
        return None


def _stores(record: str) -> list[str]:
    """Stores whose completion record a file is."""
    return [os.path.join(os.path.dirname(record), name) for name in sound_json(record).get("stores", [])]


def _is_there(store: str) -> bool:
    return os.path.isfile(os.path.join(store, "zarr.json"))


def _place(output: str) -> Path:
    path = Path(output)
    return path.parent / FOLDER / f"{path.name}.json"


def _digest(path: str) -> str:
    with contextlib.suppress(LookupError, TypeError, ValueError):
        return digest(READ[os.path.basename(path)](path))
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "blake2b").hexdigest()[:32]


def _of_record(path: str) -> dict[str, Any]:
    """What the register knows of a movie, but for what is there for people: paths, and the software."""
    said = read_json(path)
    return {name: said[name] for name in sorted(said) if name not in ("paths", "made")}


def _of_table(path: str) -> list[list[str]]:
    """An acquisition table whose files are named from the folder on that they have in common."""
    rows = [line.split("\t") for line in Path(path).read_text(encoding="utf-8").splitlines()]
    column = rows[0].index("file")
    above = os.path.commonpath([os.path.dirname(row[column]) for row in rows[1:] if row[column]])
    for row in rows[1:]:
        row[column] = row[column] and os.path.relpath(row[column], above or ".")
    return rows


READ = {"movie.json": _of_record, "acquisition.tsv": _of_table}
"""What results depend on of files that say more; others they depend on as a whole."""


class Plan:
    """What one plan finds, and tells a scheduler that knows times alone.

    Parameters
    ----------
    results
        The folder of all of them.
    """

    def __init__(self, results: str) -> None:
        self.changed = os.path.join(results, CHANGED)
        self.now = time.time_ns()
        self._made = functools.cache(made_of)
        self._content = functools.cache(content)
        self._ordered: dict[str, int] = {}

    def is_current(self, outputs: Sequence[str], recipe: str) -> bool:
        """Whether outputs are those that the recipe makes of the inputs as they are."""
        for output in outputs:
            made = self._made(output)
            if made is None or made.recipe != recipe:
                return False
            if not all(_is_there(os.path.join(os.path.dirname(output), store)) for store in made.stores):
                return False
            kept = {output: made.outputs[os.path.basename(output)][1]}
            kept |= zip(self._sources(output), made.inputs.values(), strict=True)
            if any(self._content(path) != digest for path, digest in kept.items()):
                return False
        return True

    def put_in_order(self, outputs: Iterable[str]) -> None:
        """Give outputs, and what they were made of, no earlier times than theirs: where content differs, a
        time tells nothing. To be called before the scheduler looks at any.
        """
        for output in outputs:
            self._in_order(output)

    def tell(self, outputs: Sequence[str], benchmark: str, recipe: str | None) -> list[str]:
        """Inputs that make the scheduler see what is so: none for current outputs, else a file that is newer.

        The benchmark of the job that made them counts as one of its outputs there. Nothing is current for no
        recipe.
        """
        if recipe is not None and self.is_current(outputs, recipe):
            _set_time(benchmark, max(map(self._in_order, outputs)))
            return []
        # What a job is about to read must not be newer than what it writes.
        for path in {path for output in outputs for path in (output, *self._sources(output))}:
            self._not_in_the_future(path)
        # Where nothing is, the scheduler sees by itself what is to do, and a plan leaves nothing behind.
        return [self._newest] if any(map(os.path.exists, outputs)) else []

    @functools.cached_property
    def _newest(self) -> str:
        """A file that is newer than all results."""
        # Never the same text: Snakemake, for one, takes a small file whose content is the same for unchanged.
        text = uuid.uuid4().hex
        try:
            write_text(self.changed, text)
        except OSError:  # a plan of results that may be read only
            folder = tempfile.TemporaryDirectory(prefix="spatialdino-")
            atexit.register(folder.cleanup)
            self.changed = os.path.join(folder.name, CHANGED.name)
            Path(self.changed).write_text(text)
        return self.changed

    def _sources(self, output: str) -> list[str]:
        """What an output was made of."""
        made, folder = self._made(output), os.path.dirname(output)
        return [os.path.normpath(os.path.join(folder, name)) for name in made.inputs] if made else []

    def _in_order(self, output: str) -> int:
        """Time of a file (ns), no earlier than those of its sources, not in the future."""
        if output not in self._ordered:
            self._ordered[output] = self._not_in_the_future(output)
            latest = max(map(self._in_order, self._sources(output)), default=0)
            if latest > self._ordered[output]:
                self._ordered[output] = _set_time(output, latest)
        return self._ordered[output]

    def _not_in_the_future(self, path: str) -> int:
        """Time of a file (ns); a moment ago for one that is not made yet, by its time."""
        try:
            changed = os.stat(path).st_mtime_ns
        except OSError:
            return 0
        return changed if changed < self.now else _set_time(path, self.now - MOMENT)


def _set_time(path: str, nanoseconds: int) -> int:
    # Of somebody else, or read-only: what a run writes there will say so.
    with contextlib.suppress(OSError):
        os.utime(path, ns=(nanoseconds, nanoseconds))
    return nanoseconds
