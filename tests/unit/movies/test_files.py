"""Publication of files: whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from spatialdino_core.files import SAMPLE, published, read_json, sampled, write_json


def test_a_failed_write_leaves_the_old_file_and_no_litter(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"a": 1})

    def fail_half_way() -> None:
        with published(path) as temporary:
            temporary.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_half_way()
    assert read_json(path) == {"a": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_two_attempts_do_not_share_a_temporary_file(tmp_path: Path) -> None:
    with published(tmp_path / "a.txt") as one, published(tmp_path / "a.txt") as two:
        assert one != two
        one.write_text("1")
        two.write_text("2")
    assert (tmp_path / "a.txt").read_text() == "1"


def test_names_of_files_that_are_no_text_are_written_and_read_again(tmp_path: Path) -> None:
    """As Linux gives the name of a file from a system with another encoding."""
    name = b"M\xe4use.tif".decode("utf-8", "surrogateescape")
    write_json(tmp_path / "a.json", {"problem": f"{name} is µ"})
    assert read_json(tmp_path / "a.json") == {"problem": f"{name} is µ"}


def test_samples_of_a_file_show_its_size_its_ends_and_its_middle(tmp_path: Path) -> None:
    path, size = tmp_path / "a", 20 * SAMPLE
    path.write_bytes(bytes(size))
    whole, samples = sampled(path, size), sampled(path, size - 1)
    for place in (0, size // 2, size - 1):
        path.write_bytes(bytes(size)[:place] + b"x" + bytes(size)[place + 1 :])
        assert sampled(path, size) != whole
        assert sampled(path, size - 1) != samples
    path.write_bytes(bytes(size + 1))
    assert sampled(path, size - 1) != samples
