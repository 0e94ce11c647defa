"""Whole shards, chunk by chunk: the bytes that zarr-python would write, without its detour through one task a chunk.

A shard of Zarr v3 is its chunks one after the other and then an index: offset and length of each chunk, uint64, and a
crc32c of the index. A chunk of zeros is left out, and its index entry is all ones. Each chunk is its values,
little-endian, compressed by blosc, and a crc32c (specifications: Zarr v3 core and `sharding_indexed`). Reading whole
arrays is left to zarr.
"""

import os
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal

import google_crc32c
import numpy as np
import zarr
from numcodecs import Blosc, blosc
from numpy.typing import NDArray
from zarr.codecs import BloscCodec, BytesCodec, Crc32cCodec, ShardingCodec

from pairscape.pipeline.storage.codecs import folder_of

ABSENT = 2**64 - 1  # both numbers of the index entry of a chunk that is not stored
INDEX_ENTRY = 16  # bytes: where a chunk begins, and its length
CRC_BYTES = 4


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


# ── ranges of long 1-D arrays ────────────────────────────────────────────────────────────────────────────────────────
# A matrix has hundreds of chunks a block of cells: decoding them here takes a third of the processor time of
# zarr-python, which runs a coroutine for each. Only the layout of `pairscape.pipeline.matrix.store` is read so, with
# checksums or, as earlier versions wrote it, without; all other arrays are read by zarr or h5py.

OURS: list[list[type]] = [[BloscCodec], [BloscCodec, Crc32cCodec]]  # of older stores, and of today's


def read_range(array: Any, low: int, high: int) -> NDArray[Any]:
    """`array[low:high]` of a Zarr or HDF5 array of one dimension.

    Raises
    ------
    ValueError
        A shard is damaged.
    """
    shard = _shard_length(array)
    if shard is None or low >= high:
        return np.asarray(array[low:high])
    out, numbers = np.empty(high - low, array.dtype), range(low // shard, -(-high // shard))
    files = [_shard_file(array, number) for number in numbers]
    if not all(file.is_file() for file in files):  # holds fill values only, or is lost: zarr knows
        return np.asarray(array[low:high])
    for number, file in zip(numbers, files, strict=True):
        _read_shard(file, array, number * shard, low, out)
    return out


def _shard_length(array: Any) -> int | None:
    """Values of a shard; None if the array is laid out in another way than the one that is read here."""
    if not isinstance(array, zarr.Array) or folder_of(array) is None or array.metadata.zarr_format != 3:
        return None
    codecs: tuple[Any, ...] = array.metadata.codecs
    if len(array.shape) != 1 or len(codecs) != 1 or not isinstance(codecs[0], ShardingCodec):
        return None
    inner: tuple[Any, ...] = tuple(codecs[0].codecs)
    outer = [type(codec).__name__ for codec in codecs[0].index_codecs]
    plain = isinstance(inner[0], BytesCodec) and [type(codec) for codec in inner[1:]] in OURS
    known = _word(codecs[0].index_location) == "end" and outer == ["BytesCodec", "Crc32cCodec"]
    little = array.dtype.isnative and np.little_endian and plain and _word(inner[0].endian) == "little"
    return int((array.shards or (0,))[0]) if little and known else None


def _word(attribute: Any) -> Any:
    """An attribute of a codec as text: an enum up to zarr 3.2, text since."""
    return getattr(attribute, "value", attribute)


def _shard_file(array: Any, number: int) -> Path:
    return Path(str(folder_of(array)), array.path, array.metadata.encode_chunk_key((number,)))


def _read_shard(path: Path, array: Any, first: int, low: int, out: NDArray[Any]) -> None:
    """Decode what a shard that begins at value `first` holds of the range that begins at `low`."""
    length, n_chunks = int(array.chunks[0]), array.shards[0] // array.chunks[0]
    summed = len(array.metadata.codecs[0].codecs) == 3  # each chunk ends in a checksum
    numbers = range(max(low - first, 0) // length, min(-(-(low + out.size - first) // length), n_chunks))
    for number, content in zip(numbers, read_chunks(path, n_chunks, numbers), strict=True):
        held = checked(content) if summed and content is not None else content
        _place(held, array, first + number * length - low, length, out)


def _place(content: bytes | None, array: Any, at: int, length: int, out: NDArray[Any]) -> None:
    """Put a chunk at its place, of which a part may lie outside; the last chunk of an array is padded."""
    inside = slice(max(at, 0), min(at + length, out.size))
    if content is None:
        out[inside] = array.fill_value
    elif inside.stop - inside.start == length:
        blosc.decompress(content, out[inside])
    else:
        whole = np.empty(length, out.dtype)
        blosc.decompress(content, whole)
        out[inside] = whole[inside.start - at : inside.stop - at]
