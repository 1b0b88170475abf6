"""What the scripts share: named arguments, settings as JSON, and errors without a traceback."""

from __future__ import annotations

import argparse
import errno
import json
import os
import sys
from collections.abc import Callable, Iterable
from types import SimpleNamespace
from typing import Any

from spatialdino_core.errors import BadInputError
from spatialdino_core.made import remember

NO_PLACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM)


class Arguments(SimpleNamespace):
    """Command-line arguments of a script, and its settings."""

    def shard_lists(self) -> list[str]:
        """Lists of shards of the movies that are named: paths of hundreds would not fit on a command line."""
        return [f"{self.shards}/{movie}/index.json" for movie in self.movies]

    def section(self, name: str, kind: type) -> Any:
        """A config section as its parameter dataclass."""
        return kind(**self.settings[name])


def run(main: Callable[[Arguments], Iterable[str] | None], description: str | None, *names: str) -> None:
    """Parse ``--name value`` for each name and call ``main``.

    A name that ends in ``*`` takes any number of values. ``--settings`` (JSON, by default empty) is
    always understood, and so are ``--recipe``, ``--made-from`` and ``--makes``, which are remembered once
    ``main`` has succeeded; it may return further inputs. Bad input ends the script with its message and
    status 1.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--settings", type=json.loads, default={})
    parser.add_argument("--recipe", default="")
    parser.add_argument("--made-from", nargs="*", default=[])
    parser.add_argument("--makes", nargs="*", default=[])
    for name in names:
        option = "--" + name.rstrip("*").replace("_", "-")
        if name.endswith("*"):
            parser.add_argument(option, nargs="*", default=[])
        else:
            parser.add_argument(option, required=True)
    arguments = Arguments(**vars(parser.parse_args()))
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    try:
        further = main(arguments)
        # Of several processes of one job, the first speaks for all.
        if arguments.recipe and os.environ.get("RANK", "0") == "0":
            remember(arguments.recipe, [*arguments.made_from, *(further or ())], arguments.makes)
    except BadInputError as error:
        sys.exit(f"ERROR: {error}")
    except OSError as error:
        if error.errno not in NO_PLACE:
            raise
        place = error.filename or "the results, or the folder for temporary files"
        sys.exit(
            f"ERROR: {place}: found '{os.strerror(error.errno)}'; expected a place to write to. Nothing "
            "half-written is left, and what is finished stays: make room or get permission, then run again."
        )
