"""Sets of TIFF files that one list describes: OME-TIFF, and Micro-Manager files."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from spatialdino_core.errors import BadInputError
from spatialdino_core.movies.formats.image import Image, opening
from spatialdino_core.movies.formats.micro_manager import INDEX, StackHeader
from spatialdino_core.movies.formats.ome_xml import Block, companion, ome_images, own_uuid
from spatialdino_core.movies.formats.tiff_content import TiffContent, opened
from spatialdino_core.movies.formats.tiff_listed import images_by_list, images_by_xml

SHOWN = 8


@dataclass(frozen=True, kw_only=True)
class FileSet:
    """Several files that one list describes.

    Attributes
    ----------
    images
        One for each position.
    files
        Those that the list names, also those that cannot be opened.
    by
        Which list, in words.
    """

    images: tuple[Image, ...]
    files: frozenset[Path]
    by: str


def set_of(content: TiffContent, files: Sequence[Path]) -> FileSet | None:
    """The set to which a file belongs; ``None`` if it stands alone.

    Parameters
    ----------
    content
        The file.
    files
        All that the path matches: those of the set may have been renamed.

    Raises
    ------
    BadInputError
        If the files of the set are not there, or not under the names that the list knows.
    """
    if content.header is not None:
        return _listed_set(content, content.header)
    xml = _xml_of_set(content.path, content)
    return None if xml is None else images_of_set(content.path, xml, files)


def _xml_of_set(path: Path, content: TiffContent) -> str | None:
    """The XML that describes a set of files to which a file belongs; ``None`` if it stands alone."""
    if content.xml is None:
        return None
    name = companion(content.xml)
    if name is not None:
        beside = path.with_name(Path(name).name)
        if not beside.is_file():
            return None
        with opening(beside):
            return beside.read_text(encoding="utf-8-sig")
    return None if _describes_itself(path, content) else content.xml


def _describes_itself(path: Path, content: TiffContent) -> bool:
    """Whether all planes that the XML of a file names lie in that file, whatever it was called before."""
    assert content.xml is not None
    images = ome_images(content.xml, f"OME-XML of {path.name}")
    named = {(block.uuid, block.file_name) for image in images for block in image.blocks}
    if len({name for _, name in named} - {None}) > 1:
        return False
    own = own_uuid(content.xml)
    if all(uuid == own if uuid else name in (None, path.name) for uuid, name in named):
        return True
    # Another name or identifier, and as many planes as it has itself: its own ones of another day.
    uuid, name = next(iter(named))
    counted = sum(math.prod(image.counts.values()) for image in images)
    gone = uuid is None or name is None or not path.with_name(Path(name).name).is_file()
    return len(named) == 1 and gone and counted == sum(content.planes.alike)


def images_of_set(path: Path, xml: str, files: Sequence[Path]) -> FileSet:
    """A set of files that one XML describes.

    A file is found by its name beside ``path``; where files were renamed, by the identifier that each of the
    ``files`` carries.
    """
    contents: dict[Path, TiffContent | str] = {}
    renamed: dict[str, Path] = {}
    known: dict[tuple[str | None, str | None], TiffContent | str] = {}
    used: set[Path] = set()

    def content(file: Path) -> TiffContent | str:
        if file not in contents:
            contents[file] = _opened_or_why(file)
        return contents[file]

    def by_identifier(uuid: str | None) -> Path | None:
        if not renamed:
            for file in files:
                found = content(file)
                if not isinstance(found, str) and found.xml and (own := own_uuid(found.xml)):
                    renamed[own] = file
            renamed.setdefault("", path)
        return renamed.get(uuid or "")

    def file_of(block: Block) -> TiffContent | str:
        key = (block.uuid, block.file_name)
        if key not in known:  # a block is often a single plane
            known[key] = searched(block)
        return known[key]

    def searched(block: Block) -> TiffContent | str:
        file = place_of(block)
        if file is None:
            return f"no file {block.file_name or block.uuid}"
        used.add(file)
        return content(file)

    def place_of(block: Block) -> Path | None:
        beside = path.with_name(Path(block.file_name).name) if block.file_name else None
        if beside is None and block.uuid is None:
            beside = path
        named = content(beside) if beside is not None and beside.is_file() else None
        own = own_uuid(named.xml) if isinstance(named, TiffContent) and named.xml else None
        if named is None or (block.uuid and own and own != block.uuid):
            # Files that were renamed say themselves which they are.
            beside = by_identifier(block.uuid) or (beside if named is not None else None)
        return beside

    found = ome_images(xml, f"OME-XML of {path.name}")
    first = [file_of(block) for image in found for block in image.blocks]
    model = next((one for one in first if not isinstance(one, str)), None)
    if model is None:
        raise BadInputError(
            path,
            found=f"none of the files that its OME-XML names ({first[0] if first else 'it names none'})",
            expected="the files of the set beside it, under their own names",
            remedy="Copy them into this folder.",
        )
    images = tuple(images_by_xml(found, file_of, model))
    return FileSet(images=images, files=frozenset(used), by=f"OME-XML of {path.name}")


def _listed_set(content: TiffContent, header: StackHeader) -> FileSet | None:
    """The Micro-Manager acquisition to which a file belongs; ``None`` if it stands alone."""
    files = header.files() if header.own else []
    if files in ([], [content.path]):
        return None
    if content.path not in files:
        names = ", ".join(file.name for file in files[:SHOWN])
        raise BadInputError(
            content.path,
            found=f"{INDEX} beside it that names other files: {names}",
            expected="the files of an acquisition under the names that they were written with",
            remedy="Give them their names back, and leave all in one folder.",
        )
    contents = {file: content if file == content.path else _opened_or_why(file) for file in files}
    listed, by = header.own, INDEX
    if not header.has_index:
        headers = {f: one.header for f, one in contents.items() if not isinstance(one, str) and one.header}
        own = {file: one.own or () for file, one in headers.items() if one.summary == header.summary}
        contents = {file: contents[file] for file in own}
        listed, by = tuple(itertools.chain(*own.values())), f"the index maps of {len(own)} files"
    return FileSet(images=tuple(images_by_list(listed, contents, content)), files=frozenset(contents), by=by)


def _opened_or_why(file: Path) -> TiffContent | str:
    """A file, or why it cannot be opened."""
    if not file.is_file():
        return f"no file {file.name}"
    try:
        return opened(file)
    except BadInputError as error:
        return f"{file.name}: {error.found}"
