"""Where the second plan is started from: where the user gave the command."""

from __future__ import annotations

from pathlib import Path

import pytest

from workflow_scripts.again import given_in


@pytest.mark.parametrize(
    ("arguments", "below", "shell", "expected"),
    [
        ([], "", "", ""),
        (["--directory", "cells"], "cells", "", ""),
        (["--directory=cells/today"], "cells/today", "", ""),
        (["-d", "../cells"], "cells", "code", "code"),
        (["-d", "../cells"], "cells", "elsewhere", "cells"),
        (["-d", "."], "cells", "", "cells"),
        (["-dcells"], "cells", "", ""),
        (["--direct", "cells"], "cells", "", ""),
        (["--dry-run", "--default-resources", "x"], "cells", "", "cells"),
    ],
)
def test_the_folder_that_a_command_was_given_in(
    tmp_path: Path, arguments: list[str], below: str, shell: str, expected: str
) -> None:
    for name in ("cells/today", "code"):
        (tmp_path / name).mkdir(parents=True)
    told = str(tmp_path / shell) if shell else ""
    assert given_in(arguments, tmp_path / below, told) == tmp_path / expected


def test_an_absolute_directory_needs_no_way_back(tmp_path: Path) -> None:
    there = tmp_path / "cells"
    there.mkdir()
    folder = given_in(["--directory", str(there)], there, str(tmp_path))
    assert folder == tmp_path
    assert (given_in(["--directory", str(there)], there, "") / there) == there
