"""Read images of any rows of a store, chunk by chunk, for the trainer.

A shard on this machine is read directly (`pipeline.storage.chunks`), about ten times as fast as through zarr-python;
anything else, a store that someone re-encoded or one in object storage, through zarr and whatever codec pipeline it is
set to.
"""

from collections.abc import Iterator
from functools import lru_cache

import numba
import numpy as np
from numpy.typing import NDArray
from zarr.codecs import BloscCodec, Crc32cCodec

from pairscape.pipeline.heatmaps.images import Images, damaged, stored_array
from pairscape.pipeline.heatmaps.shards import CODEC, shard_file
from pairscape.pipeline.storage.chunks import read_chunks
from pairscape.pipeline.storage.paths import is_remote

Rows = NDArray[np.int64]
Counts = NDArray[np.signedinteger]


def count_dtype(n_cells: int) -> type[np.int16 | np.int32]:
    """The smallest type that holds any count, whatever the image."""
    return np.int16 if n_cells < 2**15 else np.int32


def read_images(images: Images, rows: Rows, out: Counts | None = None) -> tuple[Counts, NDArray[np.int32]]:
    """Images and cells in which neither gene is expressed, of rows of a store.

    Only chunks that hold some of the rows are decompressed, one at a time.

    Parameters
    ----------
    rows : (R,) int64, ascending
    out : (R, bins, bins)
        Where the images go, of the type below; memory that was in use is filled in half the time. Absent: a new array.

    Returns
    -------
    (R, bins, bins) int16, or int32 from 32,768 cells on; (R,) int32

    Raises
    ------
    JobError
        A shard is damaged or gone.
    """
    bins, shard_pairs = images.spec.binning.bins, images.spec.binning.shard_pairs
    counts = out if out is not None else np.empty((rows.size, bins, bins), count_dtype(images.spec.n_cells))
    both_zero = np.empty(rows.size, np.int32)
    read_shard = _read_direct if _is_plain(str(images.path), images.spec.store_hash) else _read_with_zarr
    for shard, part in _runs(rows, shard_pairs):
        within = rows[part] - shard * shard_pairs
        both_zero[part] = read_shard(images, shard, within, counts[part])[within]
    return counts, both_zero


def _runs(rows: Rows, length: int) -> Iterator[tuple[int, slice]]:
    """Ascending rows, cut where a new stretch of `length` begins: its number, and where its rows stand."""
    number = rows // length
    starts = np.flatnonzero(np.diff(number, prepend=-1))
    for start, stop in zip(starts, [*starts[1:], rows.size], strict=True):
        yield int(number[start]), slice(start, stop)


def _read_direct(images: Images, shard: int, within: Rows, out: Counts) -> NDArray[np.uint32]:
    """Fill `out` with images of a shard whose files lie here; returns `both_zero` of the whole shard."""
    binning = images.spec.binning
    chunk, images_flat = np.empty((_chunk_pairs(images), binning.bins**2), np.uint32), out.reshape(len(out), -1)
    both_zero = np.zeros(binning.shard_pairs, np.uint32)
    wanted = list(_runs(within, len(chunk)))
    numbers = [number for number, _ in wanted]
    try:
        for add, group in enumerate(images.group_numbers):
            file = shard_file(images, "counts", shard, group)
            contents = read_chunks(file, binning.shard_pairs // len(chunk), numbers)
            for (number, part), content in zip(wanted, contents, strict=True):
                if content is None:
                    raise ValueError("there is nothing where images should be")  # every image sums to its cells
                CODEC.decode(content, chunk)
                (_add if add else _take)(chunk, within[part] - number * len(chunk), images_flat[part])
            both_zero += _both_zero_of(images, shard, group)
    except ValueError as error:
        raise damaged(images, shard, error) from error
    return both_zero


def _both_zero_of(images: Images, shard: int, group: int | None) -> NDArray[np.uint32]:
    """Of a whole shard, one group's where there are groups."""
    found = np.zeros(images.spec.binning.shard_pairs, np.uint32)
    if (file := shard_file(images, "both_zero", shard, group)).exists():  # all zeros are no file
        CODEC.decode(file.read_bytes(), found)
    return found


@numba.njit(nogil=True, cache=True)
def _take(chunk, rows, out):  # type: ignore[no-untyped-def]
    """`out[:] = chunk[rows]`, all with flat images, cast on the way."""
    for i in range(rows.size):
        image, taken = chunk[rows[i]], out[i]
        for k in range(image.size):  # one axis, so that it becomes vector instructions
            taken[k] = image[k]


@numba.njit(nogil=True, cache=True)
def _add(chunk, rows, out):  # type: ignore[no-untyped-def]
    """`out += chunk[rows]`, as `_take`."""
    for i in range(rows.size):
        image, taken = chunk[rows[i]], out[i]
        for k in range(image.size):
            taken[k] += image[k]


def _read_with_zarr(images: Images, shard: int, within: Rows, out: Counts) -> NDArray[np.uint32]:
    """The same through zarr: of each chunk that holds a row, what lies between the first and the last of them."""
    first = shard * images.spec.binning.shard_pairs
    for _, part in _runs(within, _chunk_pairs(images)):
        start, stop = int(within[part][0]), int(within[part][-1]) + 1
        out[part] = images.counts(slice(first + start, first + stop))[within[part] - start]
        if not out[part].any(axis=(1, 2)).all():  # every image sums to the number of cells
            raise damaged(images, shard, ValueError("there is nothing where images should be"))
    return images.both_zero(slice(first, first + images.spec.binning.shard_pairs))


def _chunk_pairs(images: Images) -> int:
    return int(stored_array(str(images.path), images.spec.store_hash, "counts").chunks[-3])


@lru_cache(maxsize=32)
def _is_plain(path: str, plan_hash: str) -> bool:
    """Whether shards are files here, and encoded as this project does it."""
    array = stored_array(path, plan_hash, "counts")
    kinds = tuple(type(codec) for codec in array.compressors)
    return not is_remote(path) and array.shards is not None and kinds == (BloscCodec, Crc32cCodec)
