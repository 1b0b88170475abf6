"""Where a matrix of tokens lies, and how a block of it comes to the computing device and goes back.

A store has planes (heads, or one), tokens and features. In the device's memory, in the machine's (pinned, if
the device is a GPU), or in a file without a name. The next block is fetched while one is worked on. Files are
read and written, not mapped: mapped pages would count as the process's memory.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, cast

import torch
from torch import Tensor

from spatialdino_core.encoder.streaming_parameters import StoreKind, StreamingParameters
from spatialdino_core.errors import BadInputError

Block = tuple[slice, Tensor]


class TokenStore(ABC):
    """A matrix (planes, tokens, features) that is read and written in runs of tokens.

    Parameters
    ----------
    shape
        (planes, tokens, features).
    dtype
        Of what is stored and read.
    device
        Where blocks are wanted.
    """

    kind: StoreKind

    def __init__(self, shape: tuple[int, int, int], dtype: torch.dtype, device: torch.device) -> None:
        self.shape, self.dtype, self.device = shape, dtype, device

    @abstractmethod
    def read(self, rows: slice) -> Tensor:
        """(planes, rows, features) on the device; not to be written into."""

    @abstractmethod
    def write(self, rows: slice, values: Tensor) -> None:
        """Store (planes, rows, features), from any device and of any floating type."""

    @abstractmethod
    def blocks(self, size: int, start: int = 0) -> Iterator[Block]:
        """All tokens from ``start`` in runs of ``size``, each with its rows.

        The next run is read while one is worked on; of a run, its own rows only may be written then.
        """

    def close(self) -> None:  # noqa: B027 - most stores have nothing to do
        """Free what is not memory."""


class DeviceStore(TokenStore):
    """In the memory of the computing device."""

    kind = "device"

    def __init__(self, shape: tuple[int, int, int], dtype: torch.dtype, device: torch.device) -> None:
        super().__init__(shape, dtype, device)
        self.data = torch.empty(shape, dtype=dtype, device=device)

    def read(self, rows: slice) -> Tensor:
        """A view."""
        return self.data[:, rows]

    def write(self, rows: slice, values: Tensor) -> None:
        """Copy."""
        self.data[:, rows] = values.to(self.data)

    def blocks(self, size: int, start: int = 0) -> Iterator[Block]:
        """Views, without a thread."""
        stop = self.shape[1]
        for low in range(start, stop, size):
            rows = slice(low, min(low + size, stop))
            yield rows, self.read(rows)


class _FetchedStore(TokenStore):
    """Blocks come over a stream of their own, so that copies and kernels overlap. Not measured on a GPU."""

    def __init__(self, shape: tuple[int, int, int], dtype: torch.dtype, device: torch.device) -> None:
        super().__init__(shape, dtype, device)
        self.stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        # One thread for the life of the store: each new one would keep some freed memory of its own.
        self.reader = ThreadPoolExecutor(max_workers=1)

    @abstractmethod
    def _host(self, plane: int, rows: slice) -> Tensor:
        """(rows, features) of one plane in the machine's memory, contiguous; pinned for a GPU."""

    def read(self, rows: slice) -> Tensor:
        """A copy, on the way to the device when this returns in a thread of its own."""
        with torch.cuda.stream(self.stream):  # nothing without a GPU
            shape = (self.shape[0], rows.stop - rows.start, self.shape[2])
            values = torch.empty(shape, dtype=self.dtype, device=self.device)
            for plane, wanted in enumerate(values):
                wanted.copy_(self._host(plane, rows), non_blocking=True)
        if self.stream is not None:
            self.stream.synchronize()
        return values

    def blocks(self, size: int, start: int = 0) -> Iterator[Block]:
        """Copies, each read by another thread while the one before it is worked on."""
        stop = self.shape[1]
        runs = [slice(low, min(low + size, stop)) for low in range(start, stop, size)]
        coming = self.reader.submit(self.read, runs[0]) if runs else None
        for number, this in enumerate(runs):
            assert coming is not None
            values = coming.result()
            last = number + 1 == len(runs)
            coming = None if last else self.reader.submit(self.read, runs[number + 1])
            yield this, self._arrived(values)

    def close(self) -> None:
        """The thread ends."""
        self.reader.shutdown()

    def _arrived(self, values: Tensor) -> Tensor:
        """What another thread has read, ready for this one."""
        if self.stream is not None:
            # The memory belongs to the stream of copies, which must not reuse it under a running kernel.
            values.record_stream(torch.cuda.current_stream(self.device))
        return values


class HostStore(_FetchedStore):
    """In the machine's memory."""

    kind = "cpu"

    def __init__(self, shape: tuple[int, int, int], dtype: torch.dtype, device: torch.device) -> None:
        super().__init__(shape, dtype, device)
        self.data = torch.empty(shape, dtype=dtype, pin_memory=device.type == "cuda")

    def _host(self, plane: int, rows: slice) -> Tensor:
        return self.data[plane, rows]

    def write(self, rows: slice, values: Tensor) -> None:
        """Copy; has ended when this returns."""
        for plane, new in enumerate(values):
            self.data[plane, rows].copy_(new)


class DiskStore(_FetchedStore):
    """In a file without a name, which vanishes with the process, however that ends.

    Parameters
    ----------
    folder
        On the disk to use; None for the system's temporary folder.
    """

    kind = "disk"

    def __init__(
        self, shape: tuple[int, int, int], dtype: torch.dtype, device: torch.device, folder: Path | None
    ) -> None:
        super().__init__(shape, dtype, device)
        self.row_bytes = shape[2] * dtype.itemsize
        self.file = nameless_file(folder, shape[0] * shape[1] * self.row_bytes)

    def _offset(self, plane: int, row: int) -> int:
        return (plane * self.shape[1] + row) * self.row_bytes

    def _host(self, plane: int, rows: slice) -> Tensor:
        pinned = self.device.type == "cuda"
        values = torch.empty(rows.stop - rows.start, self.shape[2], dtype=self.dtype, pin_memory=pinned)
        left, offset = _bytes(values), self._offset(plane, rows.start)
        while left:
            count = os.preadv(self.file.fileno(), [left], offset)
            if count == 0:
                raise OSError("a file of tokens ends too early")
            left, offset = left[count:], offset + count
        return values

    def write(self, rows: slice, values: Tensor) -> None:
        """Write; lies with the system when this returns."""
        for plane, new in enumerate(values):
            left = _bytes(new.to("cpu", self.dtype).contiguous())
            offset = self._offset(plane, rows.start)
            while left:
                count = os.pwrite(self.file.fileno(), left, offset)
                left, offset = left[count:], offset + count

    def close(self) -> None:
        """The file vanishes."""
        super().close()
        self.file.close()


def nameless_file(folder: Path | None, size: int) -> IO[bytes]:
    """A file of ``size`` bytes that vanishes with the process, however that ends.

    Raises
    ------
    BadInputError
        If the disk has no room for it.
    """
    where = folder or Path(tempfile.gettempdir())
    free = shutil.disk_usage(where).free
    if size > free:
        raise BadInputError(
            where,
            found=f"{free / 1e6:.0f} MB free",
            expected=f"room for {size / 1e6:.0f} MB of tokens, keys or values of a volume",
            remedy="Give another folder, or free space.",
        )
    file = tempfile.TemporaryFile(dir=where, prefix="tokens-", buffering=0)  # noqa: SIM115
    file.truncate(size)
    return file


def make_store(
    kind: StoreKind,
    shape: tuple[int, int, int],
    dtype: torch.dtype,
    device: torch.device,
    folder: Path | None = None,
) -> TokenStore:
    """A store with undefined content."""
    if kind == "disk":
        return DiskStore(shape, dtype, device, folder)
    return (DeviceStore if kind == "device" else HostStore)(shape, dtype, device)


def choose_store(needed: int, parameters: StreamingParameters, device: torch.device) -> StoreKind:
    """The store that was asked for, or the first that holds ``needed`` bytes within its budget."""
    if parameters.store != "auto":
        return parameters.store
    if parameters.budget_mb is not None:
        budget = parameters.budget_mb * 10**6
    elif device.type == "cuda":
        budget = int(0.8 * torch.cuda.mem_get_info(device)[0])
    else:
        budget = machine_memory() // 4
    if needed <= budget:
        return "device"
    return "cpu" if device.type == "cuda" and needed <= machine_memory() // 2 else "disk"


def machine_memory() -> int:
    """Bytes of memory that the machine has."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _bytes(values: Tensor) -> memoryview:
    return cast(memoryview, values.view(torch.uint8).reshape(-1).numpy().data)
