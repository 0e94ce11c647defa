"""A range of a long 1-D array on disk, decoded chunk by chunk where zarr-python would run a coroutine for each.

A matrix has hundreds of chunks a block of cells: this takes a third of zarr-python's processor time. Only the layout
that `pipeline.matrix.store` writes is read here: Zarr v3 in local files, shards of little-endian values under blosc,
with checksums or, as earlier versions wrote them, without. All other arrays are zarr's or h5py's to read.
"""

from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numcodecs import blosc
from numpy.typing import NDArray
from zarr.codecs import BloscCodec, BytesCodec, Crc32cCodec, ShardingCodec
from zarr.storage import LocalStore

from pairscape.pipeline.storage.chunks import checked, read_chunks

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
    if not all(file.exists() for file in files):  # holds fill values only, or is lost: zarr knows
        return np.asarray(array[low:high])
    for number, file in zip(numbers, files, strict=True):
        _read_shard(file, array, number * shard, low, out)
    return out


def _shard_length(array: Any) -> int | None:
    """Values of a shard; None if the array is laid out in another way than the one that is read here."""
    if not isinstance(array, zarr.Array) or not isinstance(array.store, LocalStore) or array.metadata.zarr_format != 3:
        return None
    codecs: tuple[Any, ...] = array.metadata.codecs
    if len(array.shape) != 1 or len(codecs) != 1 or not isinstance(codecs[0], ShardingCodec):
        return None
    inner: tuple[Any, ...] = tuple(codecs[0].codecs)
    outer = [type(codec).__name__ for codec in codecs[0].index_codecs]
    plain = isinstance(inner[0], BytesCodec) and [type(codec) for codec in inner[1:]] in OURS
    known = codecs[0].index_location.value == "end" and outer == ["BytesCodec", "Crc32cCodec"]
    little = array.dtype.isnative and np.little_endian and plain and inner[0].endian.value == "little"
    return int((array.shards or (0,))[0]) if little and known else None


def _shard_file(array: Any, number: int) -> Path:
    return Path(array.store.root, array.path, array.metadata.encode_chunk_key((number,)))


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
