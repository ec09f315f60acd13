"""One shard: an immutable safetensors file of keys, rows and checks.

Knows the format of a file, and nothing about the folder it lies in.
"""

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

import numpy as np
from safetensors.numpy import save

from skshazam.exceptions import FeatureStoreMismatchError, SkshazamError

__all__ = [
    "CHUNK_ROWS",
    "KEY_BYTES",
    "DamagedShardError",
    "ShardFile",
    "chunks",
    "encode_shard",
    "row_checks",
]

KEY_BYTES = 32
CHECK_BYTES = 8
CHUNK_ROWS = 1024  # measured: larger leaves the cache, smaller costs calls
VERSION = 1
VERSION_NAME = "skshazam_shard"
MAX_HEADER_BYTES = 1 << 20
# Copying this much costs about as much as another call to the system.
READ_THROUGH_BYTES = 4096
DTYPES = {"F16": np.dtype("<f2"), "F32": np.dtype("<f4"), "U8": np.dtype("u1")}


class DamagedShardError(SkshazamError):
    """A file is not the shard that was written; caught where files are set aside."""


@lru_cache(maxsize=32)
def _multipliers(n: int) -> np.ndarray:
    """Return n fixed odd numbers, uint64: the splitmix64 sequence from seed 0."""
    z = np.arange(1, n + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return (z ^ (z >> np.uint64(31))) | np.uint64(1)


def row_checks(keys: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Return one number per row that binds its bytes to its key.

    The sum of all words of 8 bytes, each times an odd 64-bit number of its own, modulo
    2**64. The words are taken at offset 0 and again at offset 4, because a product
    forgets most of the upper bits of its factors, and the upper half of one word is the
    lower half of another. So a change within 4 aligned bytes always changes the sum;
    any other goes unseen with a chance of about 2**-32 (multilinear hashing of 32-bit
    words). In numpy it takes a third of the time of ``zlib.crc32`` in a loop over rows
    of 3 kB.

    Parameters
    ----------
    keys : ndarray of shape (n, 32), dtype=uint8
        Keys.
    rows : ndarray of shape (n, row_bytes), dtype=uint8
        The bytes of the rows.

    Returns
    -------
    checks : ndarray of shape (n,), dtype=uint64
    """
    return _key_sums(keys) + _row_sums(rows)


def _key_sums(keys: np.ndarray) -> np.ndarray:
    """Return what keys contribute to checks, uint64 (n,)."""
    # The constant makes a block of zeros, the classic lost write, fail its check.
    return _weighted_sums(keys, 1) + _multipliers(1)


def _row_sums(rows: np.ndarray) -> np.ndarray:
    """Return what rows of bytes contribute to checks, uint64 (n,)."""
    return _weighted_sums(rows, 1 + 2 * KEY_BYTES)


def _weighted_sums(content: np.ndarray, start: int) -> np.ndarray:
    """Return sums of the words of rows of bytes times numbers from `start` on."""
    n_bytes = content.shape[1]
    multipliers = _multipliers(start + n_bytes)[start:]
    if n_bytes % 8:
        words = content.view({4: "<u4", 2: "<u2", 6: "<u2"}.get(n_bytes % 8, "u1"))
        return np.einsum("ij,j->i", words, multipliers[: words.shape[1]])
    n = n_bytes // 8
    sums = np.einsum("ij,j->i", content.view("<u8"), multipliers[:n])
    if n > 1:
        between = content[:, 4:-4].view("<u8")
        sums += np.einsum("ij,j->i", between, multipliers[n : 2 * n - 1])
    return sums


def encode_shard(
    keys: np.ndarray, rows: np.ndarray, metadata: Mapping[str, str]
) -> bytes:
    """Return the file content for keys (n, 32) uint8 and rows (n, width)."""
    rows = np.ascontiguousarray(rows)
    tensors = {
        "keys": keys,
        "rows": rows,
        "checks": row_checks(keys, rows.view(np.uint8)),
    }
    return save(tensors, metadata={**metadata, VERSION_NAME: str(VERSION)})


@dataclass(frozen=True)
class _Tensor:
    """Where one tensor lies: first byte in the file, bytes a row."""

    offset: int
    row_bytes: int


class ShardFile:
    """An open shard: rows by number, each verified.

    Reads with ``preadv`` into the caller's memory, not through a memory map: a file
    that a disk or a server fails to deliver is then an error and not a SIGBUS, a
    forked child may share the descriptor, and runs of rows cost no page faults.

    Parameters
    ----------
    path : Path
        A shard.

    Attributes
    ----------
    n_rows, width, n_bytes : int
        Rows, numbers in a row, size of the file.
    dtype : dtype
        Of the rows.
    metadata : dict of str to str
        What the writer gave.

    Raises
    ------
    OSError
        The file cannot be opened or read.
    DamagedShardError
        The file is not a whole shard.
    FeatureStoreMismatchError
        A later version of skshazam wrote it.
    """

    def __init__(self, path: Path):
        self._descriptor = -1
        self.path = path
        self._descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
        self.n_bytes = os.fstat(self._descriptor).st_size
        header, data_start = self._read_header()
        self.metadata = _checked_metadata(header.pop("__metadata__", None), path)
        self._read_layout(header, data_start)

    def __del__(self):
        """Close the file when nobody reads from it any more."""
        if self._descriptor >= 0:
            os.close(self._descriptor)

    def _read_header(self) -> tuple[dict, int]:
        """Return the parsed header and the position of the first data byte."""
        length = int.from_bytes(self._bytes(0, 8), "little")
        if length > min(MAX_HEADER_BYTES, self.n_bytes - 8):
            raise DamagedShardError(f"its header claims {length} bytes")
        try:
            header = json.loads(
                self._bytes(8, length).decode(), object_pairs_hook=_without_duplicates
            )
        except (ValueError, RecursionError) as error:
            raise DamagedShardError(f"its header is not JSON: {error}") from error
        if not isinstance(header, dict):
            raise DamagedShardError("its header is not an object")
        return header, 8 + length

    def _read_layout(self, header: dict, data_start: int) -> None:
        """Learn where the tensors lie; together they must fill the file exactly."""
        if header.keys() != {"keys", "rows", "checks"}:
            raise DamagedShardError(f"it holds {sorted(header)}")
        tensors = {name: _parse_tensor(header[name]) for name in header}
        (_, key_shape, _), (dtype, shape, _) = tensors["keys"], tensors["rows"]
        if (
            tensors["keys"][:2] != ("U8", (key_shape[0], KEY_BYTES))
            or tensors["checks"][:2] != ("U64", (key_shape[0],))
            or len(shape) != 2
            or shape[0] != key_shape[0]
            or min(shape) < 1
            or dtype not in DTYPES
        ):
            raise DamagedShardError("its tensors do not belong together")
        self.n_rows, self.width = shape
        self.dtype = DTYPES[dtype]
        row_bytes = {
            "keys": KEY_BYTES,
            "rows": self.width * self.dtype.itemsize,
            "checks": CHECK_BYTES,
        }
        end = 0
        for name in sorted(tensors, key=lambda name: tensors[name][2]):
            if tensors[name][2] != (end, end + self.n_rows * row_bytes[name]):
                raise DamagedShardError(f"its {name} overlap or leave a gap")
            end = tensors[name][2][1]
        if data_start + end != self.n_bytes:
            raise DamagedShardError(
                f"it has {self.n_bytes} bytes instead of {data_start + end}"
            )
        self._tensors = {
            name: _Tensor(data_start + tensors[name][2][0], row_bytes[name])
            for name in tensors
        }

    def _bytes(self, offset: int, n: int) -> bytearray:
        """Return n bytes from a position."""
        content = bytearray(max(n, 0))
        self._fill(memoryview(content), offset)
        return content

    def _fill(self, target: memoryview, offset: int) -> None:
        """Read into memory; an early end of the file is damage."""
        while target:
            n_read = os.preadv(self._descriptor, [target], offset)
            if not n_read:
                raise DamagedShardError("it ends too early")
            target, offset = target[n_read:], offset + n_read

    def _take(
        self, name: str, rows: np.ndarray, scratch: np.ndarray | None = None
    ) -> np.ndarray:
        """Return rows of one tensor, uint8 (n, row_bytes), in `scratch` if given."""
        tensor = self._tensors[name]
        steps = np.diff(rows)
        if not steps.all():  # some rows are asked for twice
            distinct = rows[np.append(True, steps > 0)]
            return self._take(name, distinct)[np.append(0, (steps > 0).cumsum())]
        starts = [0, *(np.flatnonzero(steps > 1) + 1).tolist(), len(rows)]
        n_runs = len(starts) - 1
        span = int(rows[-1] - rows[0]) + 1 if len(rows) else 0
        if n_runs > 1 and span * tensor.row_bytes <= READ_THROUGH_BYTES * n_runs:
            whole = self._take(name, np.arange(rows[0], rows[0] + span))
            return whole[rows - rows[0]]
        if scratch is None:
            scratch = np.empty((len(rows), tensor.row_bytes), dtype=np.uint8)
        taken = scratch[: len(rows)]
        memory = memoryview(taken.reshape(-1))
        for start, end in pairwise(starts):
            part = memory[start * tensor.row_bytes : end * tensor.row_bytes]
            if part:
                first = int(rows[start])
                self._fill(part, tensor.offset + first * tensor.row_bytes)
        return taken

    def keys(self, rows: np.ndarray | None = None) -> np.ndarray:
        """Return keys.

        Parameters
        ----------
        rows : ndarray of shape (n,), dtype=int, default=None
            Row numbers, ascending; None is all.

        Returns
        -------
        keys : ndarray of shape (n, 32), dtype=uint8
        """
        if rows is None:
            content = self._bytes(self._tensors["keys"].offset, self.n_rows * KEY_BYTES)
            return np.frombuffer(content, dtype=np.uint8).reshape(-1, KEY_BYTES)
        return self._take("keys", rows)

    def take(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return rows, their keys, and which of them are as they were written.

        Parameters
        ----------
        rows : ndarray of shape (n,), dtype=int
            Row numbers, ascending; one may come twice.

        Returns
        -------
        keys : ndarray of shape (n, 32), dtype=uint8
        values : ndarray of shape (n, width)
            In the stored dtype.
        intact : ndarray of shape (n,), dtype=bool
            False where key, row and check do not belong together.
        """
        keys, values = self._take("keys", rows), self._take("rows", rows)
        checks = self._take("checks", rows).view("<u8")[:, 0]
        return keys, values.view(self.dtype), row_checks(keys, values) == checks

    def stream(
        self, rows: np.ndarray, keys: np.ndarray
    ) -> Iterator[tuple[slice, np.ndarray, np.ndarray]]:
        """Yield many rows, a chunk at a time in the same memory.

        Parameters
        ----------
        rows : ndarray of shape (n,), dtype=int
            Row numbers, ascending; one may come twice.
        keys : ndarray of shape (n, 32), dtype=uint8
            The keys that these rows should have; those in the file are not read.

        Yields
        ------
        chunk : slice
            Which of the rows.
        values : ndarray of shape (n_chunk, width)
            Overwritten by the next chunk: fresh memory costs more than reading into it.
        intact : ndarray of shape (n_chunk,), dtype=bool
            False where key, row and check do not belong together.
        """
        expected = self._take("checks", rows).view("<u8")[:, 0] - _key_sums(keys)
        shape = (min(len(rows), CHUNK_ROWS), self._tensors["rows"].row_bytes)
        scratch = np.empty(shape, dtype=np.uint8)
        for start in range(0, len(rows), CHUNK_ROWS):
            chunk = slice(start, start + CHUNK_ROWS)
            content = self._take("rows", rows[chunk], scratch)
            yield chunk, content.view(self.dtype), _row_sums(content) == expected[chunk]


def chunks(file: ShardFile) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Yield keys, rows and which are intact, for all of a shard in order."""
    for start in range(0, file.n_rows, CHUNK_ROWS):
        yield file.take(np.arange(start, min(start + CHUNK_ROWS, file.n_rows)))


def _without_duplicates(pairs: list) -> dict:
    """Return a JSON object, unless it names something twice."""
    if len({name for name, _ in pairs}) != len(pairs):
        raise DamagedShardError("its header names something twice")
    return dict(pairs)


def _checked_metadata(metadata, path: Path) -> dict[str, str]:
    """Return the writer's metadata; refuse what is later than this version."""
    if not isinstance(metadata, dict) or not all(
        isinstance(value, str) for value in metadata.values()
    ):
        raise DamagedShardError("its metadata is missing")
    version = metadata.pop(VERSION_NAME, "")
    if not (version.isascii() and version.isdecimal()) or len(version) > 9:
        raise DamagedShardError(f"its format is {version[:20]!r}")
    if int(version) > VERSION:
        raise FeatureStoreMismatchError(
            f"{str(path)!r} has format {version}; this version of skshazam knows up to "
            f"{VERSION}. Update: pip install -U skshazam."
        )
    return metadata


def _parse_tensor(entry) -> tuple[str, tuple[int, ...], tuple[int, int]]:
    """Return dtype, shape and byte range of one entry of the header."""
    entry = entry if isinstance(entry, dict) else {}
    shape, offsets = entry.get("shape"), entry.get("data_offsets")
    if (
        entry.keys() != {"dtype", "shape", "data_offsets"}
        or not isinstance(entry["dtype"], str)
        or not (isinstance(shape, list) and 1 <= len(shape) <= 2)
        or not (isinstance(offsets, list) and len(offsets) == 2)
        or not all(type(n) is int and 0 <= n < 1 << 62 for n in [*shape, *offsets])
    ):
        raise DamagedShardError("its header describes no tensor of ours")
    return entry["dtype"], tuple(shape), tuple(offsets)
