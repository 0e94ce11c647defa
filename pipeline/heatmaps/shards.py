"""Shards of an image store: their files, compressed and written, their receipts, and what is wrong with them."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pairscape.pipeline.errors import JobError
from pairscape.pipeline.options import CHUNK_PAIRS
from pairscape.pipeline.storage.chunks import ChunkCodec, join_chunks
from pairscape.pipeline.storage.paths import content_of, is_remote, remove_files
from pairscape.pipeline.storage.receipts import Receipt, write_receipted

if TYPE_CHECKING:
    from pairscape.pipeline.heatmaps.images import Images

READERS = 4  # threads that read shards to compare them with their receipts

SHARDED = ("counts", "both_zero")  # arrays that the workers write, one file a shard each

CODEC = ChunkCodec("zstd", 1, "shuffle", 2**19)  # measured: benchmarks/codecs.py


def shard_file(images: "Images", array: str, shard: int) -> Path:
    """The file that holds a shard of `counts` or `both_zero`."""
    return images.path / array / _file_within(array, shard)


def _file_within(array: str, shard: int) -> str:
    return f"c/{shard}/0/0" if array == "counts" else f"c/{shard}"


def receipt_file(images: "Images", shard: int) -> Path:
    """The receipt of a shard."""
    return images.path / "receipts" / f"{shard}.json"


def encode_shard(
    images: "Images", shard: int, counts: NDArray[np.uint32], both_zero: NDArray[np.uint32]
) -> dict[str, bytes]:
    """The files of a whole shard, by array; an empty one holds only zeros and is none.

    One chunk is decompressed and compared: a broken compressor shows at the first shard, where decompressing all of
    them would take half as long as counting. (That each image sums to the number of cells, `histogram.finish` sees to.)

    Parameters
    ----------
    counts : (P, bins, bins) uint32, both_zero : (P,) uint32
        Contiguous, for `images.spec.shard_rows(shard)`; padding is added here.

    Raises
    ------
    JobError
        An image is another one after compression.
    """
    padded = np.zeros(images.spec.binning.shard_pairs, np.uint32)
    padded[: both_zero.size] = both_zero
    return {"counts": join_chunks(_chunks(images, shard, counts)), "both_zero": CODEC.encode(padded) or b""}


def publish_shard(images: "Images", shard: int, content: dict[str, bytes]) -> int:
    """Write the files of a shard, read them back, leave the receipt; returns the bytes on disk.

    Raises
    ------
    JobError
        What was read back differs from what was written.
    """
    return write_receipted(_receipt(images, shard), content)


def _chunks(images: "Images", shard: int, counts: NDArray[np.uint32]) -> Iterator[bytes | None]:
    """Compressed chunks of a shard, one of them, in turn, compared with what was compressed; None beyond the pairs."""
    starts = range(0, images.spec.binning.shard_pairs, CHUNK_PAIRS)
    compared = shard % -(-len(counts) // CHUNK_PAIRS)
    for number, start in enumerate(starts):
        chunk = counts[start : start + CHUNK_PAIRS]
        if 0 < len(chunk) < CHUNK_PAIRS:
            chunk = np.pad(chunk, [(0, CHUNK_PAIRS - len(chunk)), (0, 0), (0, 0)])
        content = CODEC.encode(chunk) if len(chunk) else None
        if number == compared and not _says(content, chunk):
            raise JobError(
                f"shard {shard} of {images.path}: chunk {number} is another one after compression; "
                "check the installation of numcodecs, and the machine."
            )
        yield content


def _says(content: bytes | None, chunk: NDArray[np.uint32]) -> bool:
    decoded = np.zeros_like(chunk)
    if content is not None:
        CODEC.decode(content, decoded)
    return np.array_equal(decoded, chunk)


def _receipt(images: "Images", shard: int) -> Receipt:
    rows, spec = images.spec.shard_rows(shard), images.spec
    facts = {
        "plan_hash": spec.plan_hash,
        "shard": shard,
        "rows": [rows.start, rows.stop],
        "total": len(rows) * spec.n_cells,
    }
    return Receipt(receipt_file(images, shard), facts, {name: shard_file(images, name, shard) for name in SHARDED})


def has_receipt(images: "Images", shard: int) -> bool:
    """Whether a shard has a receipt of this plan and files of the size that it names."""
    return _receipt(images, shard).is_valid()


def is_listed(images: "Images", shard: int, receipts: dict[str, bytes], sizes: dict[str, dict[str, int]]) -> bool:
    """The same from what was listed of a remote store: receipts, and sizes of the files of each array."""
    receipt = _receipt(images, shard)
    said = receipt.read(receipts.get(receipt.path.name, b""))
    found = {name: sizes[name].get(_file_within(name, shard), 0) for name in SHARDED}
    return said is not None and receipt.has_sizes(said, found)


def damage(images: "Images", shard: int) -> str | None:
    """What is wrong with a shard, in words; None if its receipt, its bytes and its counts all agree."""
    receipt = _receipt(images, shard)
    if (said := receipt.read()) is None:
        return "no valid receipt"
    if name := receipt.differing(said):
        return f"{name} is not the file the receipt describes"
    if content_of(receipt.path) != receipt.rendered(said):
        return "the receipt was edited"
    rows = images.spec.shard_rows(shard)
    sums = images.counts(slice(rows.start, rows.stop)).sum(axis=(1, 2), dtype=np.int64)
    return None if (sums == images.spec.n_cells).all() else "an image does not sum to the number of cells"


def differing_shards(images: "Images") -> list[int]:
    """Shards whose files are not those that their receipts describe; every byte is read.

    Shards without a receipt are among them.
    """

    def differs(shard: int) -> bool:
        receipt = _receipt(images, shard)
        return (said := receipt.read()) is None or receipt.differing(said) is not None

    with ThreadPoolExecutor(READERS) as readers:  # sha256 leaves Python's lock to others
        found = list(readers.map(differs, range(images.spec.n_shards)))
    return [shard for shard, wrong in enumerate(found) if wrong]


def clear_shards(images: "Images", shards: Sequence[int]) -> None:
    """Remove shards that have no valid receipt. Only the driver does this, before they are computed again.

    A truncated file would make even a full overwrite fail: zarr-python 3.1 reads before it writes.
    """
    if is_remote(images.path):  # one listing and a few requests for all of them
        files = [f"{name}/{_file_within(name, shard)}" for shard in shards for name in SHARDED]
        remove_files(images.path, [*(f"receipts/{shard}.json" for shard in shards), *files])
        return
    for shard in shards:
        for path in (receipt_file(images, shard), *(shard_file(images, name, shard) for name in SHARDED)):
            path.unlink(missing_ok=True)
            for partial in (*path.parent.glob(f"{path.name}.*.partial"), *path.parent.glob(f".{path.name}.*")):
                partial.unlink(missing_ok=True)  # of a writer that was killed: zarr's, and ours of the receipt
