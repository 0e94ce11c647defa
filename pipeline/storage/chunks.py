"""Whole shards, chunk by chunk: the bytes that zarr-python would write, without its detour through one task a chunk.

A shard of Zarr v3 is its chunks one after the other and then an index: offset and length of each chunk, uint64, and a
crc32c of the index. A chunk of zeros is left out, and its index entry is all ones. Each chunk is its values,
little-endian, compressed by blosc, and a crc32c (specifications: Zarr v3 core and `sharding_indexed`). Reading whole
arrays is left to zarr.
"""

import os
import re
import secrets
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal

import google_crc32c
import numpy as np
from numcodecs import Blosc
from numpy.typing import NDArray
from zarr.codecs import BloscCodec, Crc32cCodec

from pairscape.pipeline.storage.paths import is_remote, put

ABSENT = 2**64 - 1  # both numbers of the index entry of a chunk that is not stored
INDEX_ENTRY = 16  # bytes: where a chunk begins, and its length
CRC_BYTES = 4
UNFINISHED = re.compile(r"\..+\.\d+")  # what `write_file` leaves when it is killed


@dataclass(frozen=True)
class ChunkCodec:
    """How one chunk is compressed; it is always followed by a crc32c, so that no flipped bit is read in silence.

    Parameters
    ----------
    cname, clevel, shuffle, blocksize
        As blosc has them; `blocksize` in bytes, 0 for blosc's own choice.
    """

    cname: Literal["zstd", "lz4"]
    clevel: int
    shuffle: Literal["noshuffle", "shuffle", "bitshuffle"]
    blocksize: int = 0

    def compressors(self) -> list[Any]:
        """The same for `zarr.create_array`."""
        return [BloscCodec(**asdict(self)), Crc32cCodec()]

    def encode(self, chunk: NDArray[Any]) -> bytes | None:
        """Bytes of a contiguous chunk; None if it holds only zeros, as then nothing is stored."""
        if not (chunk[:1].any() or chunk.any()):  # the first row nearly always answers
            return None
        content = bytes(self._blosc().encode(chunk))
        return content + _crc(content)

    def decode(self, content: bytes, out: NDArray[Any]) -> None:
        """Fill a contiguous array with a chunk.

        Raises
        ------
        ValueError
            The checksum is not that of the bytes.
        """
        self._blosc().decode(checked(content), out=out)

    def _blosc(self) -> Blosc:
        shuffle = {"noshuffle": Blosc.NOSHUFFLE, "shuffle": Blosc.SHUFFLE, "bitshuffle": Blosc.BITSHUFFLE}
        return Blosc(self.cname, self.clevel, shuffle[self.shuffle], self.blocksize)


def checked(content: bytes) -> bytes:
    """A chunk without the checksum at its end.

    Raises
    ------
    ValueError
        The checksum is not that of the bytes.
    """
    if _crc(content[:-CRC_BYTES]) != content[-CRC_BYTES:]:
        raise ValueError("a chunk has another checksum than its bytes")
    return content[:-CRC_BYTES]


def _crc(content: bytes) -> bytes:
    return int(google_crc32c.value(content)).to_bytes(CRC_BYTES, "little")


def join_chunks(chunks: Iterable[bytes | None]) -> bytes:
    """A shard from its chunks in order, index at the end; empty if all of them hold only zeros."""
    held = list(chunks)
    if all(chunk is None for chunk in held):
        return b""
    index, at = np.full((len(held), 2), ABSENT, "<u8"), 0
    for number, chunk in enumerate(held):
        if chunk is not None:
            index[number] = at, len(chunk)
            at += len(chunk)
    footer = index.tobytes()
    return b"".join([*(chunk for chunk in held if chunk is not None), footer, _crc(footer)])


def read_chunks(path: Path, n_chunks: int, numbers: Iterable[int]) -> Iterator[bytes | None]:
    """Some of the chunks of a shard, still compressed, None where only zeros are meant; a missing file is all zeros.

    Raises
    ------
    ValueError
        The index is damaged.
    """
    if not path.exists():
        yield from (None for _ in numbers)
        return
    with path.open("rb") as file:
        index = _read_index(file, n_chunks)
        for number in numbers:
            at, length = (int(entry) for entry in index[number])
            file.seek(at if at != ABSENT else 0)
            yield file.read(length) if at != ABSENT else None


def _read_index(file: BinaryIO, n_chunks: int) -> NDArray[np.uint64]:
    size = INDEX_ENTRY * n_chunks + CRC_BYTES
    if file.seek(0, os.SEEK_END) >= size:
        file.seek(-size, os.SEEK_END)
        footer = file.read(size)
        if _crc(footer[:-CRC_BYTES]) == footer[-CRC_BYTES:]:
            return np.frombuffer(footer[:-CRC_BYTES], "<u8").reshape(n_chunks, 2)
    raise ValueError(f"the index of {Path(file.name).name} is damaged")


def write_file(path: Path, content: bytes) -> None:
    """Write a file that is there whole or not at all, also after a power cut; nothing to write is no file.

    The directory is made where it is missing. What a killed writer leaves is named `.NAME.NUMBER`; the number is drawn,
    since the workers of many containers have the same process id, and a task may run twice. An object of
    a storage is put there, which leaves nothing.
    """
    if content and is_remote(path):
        put(path, content)
        return
    if not content:
        path.unlink(missing_ok=True)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{secrets.randbits(63)}")
    try:
        with aside.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        aside.rename(path)
    except OSError:  # the disk is full: what is half written must not keep it so
        aside.unlink(missing_ok=True)
        raise


def clear_unfinished(folder: Path) -> None:
    """Remove what killed writers left anywhere below a folder in which nobody writes any more."""
    for path in folder.rglob(".*"):
        if UNFINISHED.fullmatch(path.name) and path.is_file():
            path.unlink()
