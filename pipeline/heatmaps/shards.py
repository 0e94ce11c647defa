"""Shards of an image store: their files, compressed and written, their receipts, and what is wrong with them."""

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pairscape.pipeline.errors import JobError
from pairscape.pipeline.options import CHUNK_PAIRS
from pairscape.pipeline.storage.chunks import ChunkCodec, join_chunks
from pairscape.pipeline.storage.paths import content_of, is_remote, remove_files
from pairscape.pipeline.storage.receipts import Receipt, leave_receipt, write_described

if TYPE_CHECKING:
    from pairscape.pipeline.heatmaps.images import Images

READERS = 4  # threads that read shards to compare them with their receipts

SHARDED = ("counts", "both_zero")  # arrays that the workers write, one file a shard each

CODEC = ChunkCodec("zstd", 1, "shuffle", 2**19)  # measured: benchmarks/codecs.py


def shard_file(images: "Images", array: str, shard: int, group: int | None = None) -> Path:
    """The file that holds a shard of `counts` or `both_zero`, of a store with groups that of a group."""
    return images.path / array / _file_within(array, shard, group)


def _file_within(array: str, shard: int, group: int | None) -> str:
    number = f"c/{shard}" if group is None else f"c/{group}/{shard}"
    return f"{number}/0/0" if array == "counts" else number


def _name(array: str, group: int | None) -> str:
    return array if group is None else f"{array}/{group}"


def _parts(images: "Images") -> dict[str, tuple[str, int | None]]:
    """Files of a shard as its receipt names them: array and group of each."""
    groups = images.spec.groups
    numbers: Iterable[int | None] = [None] if groups is None else range(len(groups.names))
    return {_name(array, group): (array, group) for group in numbers for array in SHARDED}


def receipt_file(images: "Images", shard: int) -> Path:
    """The receipt of a shard."""
    return images.path / "receipts" / f"{shard}.json"


def encode_shard(
    images: "Images", shard: int, counts: NDArray[np.unsignedinteger], both_zero: NDArray[np.uint32], group: int = 0
) -> dict[str, bytes]:
    """The files of a whole shard, or of a group in it, as the receipt names them; an empty one is none: only zeros.

    One chunk is decompressed and compared: a broken compressor shows at the first shard, where decompressing all of
    them would take half as long as counting. (That each image sums to the number of cells, `histogram.finish` sees to.)

    Parameters
    ----------
    counts : (P, bins, bins) unsigned, both_zero : (P,) uint32
        Contiguous, for `images.spec.shard_rows(shard)`; padding is added here.

    Raises
    ------
    JobError
        An image is another one after compression.
    """
    padded = np.zeros(images.spec.binning.shard_pairs, np.uint32)
    padded[: both_zero.size] = both_zero
    own = None if images.spec.groups is None else group
    counted = join_chunks(_chunks(images, shard, counts))
    return {_name("counts", own): counted, _name("both_zero", own): CODEC.encode(padded) or b""}


def publish_shard(
    images: "Images", shard: int, content: dict[str, bytes], written: dict[str, Any] | None = None
) -> int:
    """Write files of a shard, read them back, leave the receipt when it has all of them; returns the bytes on disk.

    Parameters
    ----------
    content
        By the names of the receipt: all files, or those of a group.
    written
        What the receipt will say of the files written before; takes these in. Absent: there are none.

    Raises
    ------
    JobError
        What was read back differs from what was written.
    """
    receipt, written = _receipt(images, shard), {} if written is None else written
    written.update(write_described(receipt, content))
    if written.keys() == receipt.files.keys():
        leave_receipt(receipt, written)
    return sum(map(len, content.values()))


def _chunks(images: "Images", shard: int, counts: NDArray[np.unsignedinteger]) -> Iterator[bytes | None]:
    """Compressed chunks of a shard, one of them, in turn, compared with what was compressed; None beyond the pairs."""
    starts = range(0, images.spec.binning.shard_pairs, CHUNK_PAIRS)
    compared = shard % -(-len(counts) // CHUNK_PAIRS)
    for number, start in enumerate(starts):
        chunk = counts[start : start + CHUNK_PAIRS].astype(np.uint32, copy=False)
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
    files = {name: shard_file(images, array, shard, group) for name, (array, group) in _parts(images).items()}
    return Receipt(receipt_file(images, shard), facts, files)


def has_receipt(images: "Images", shard: int) -> bool:
    """Whether a shard has a receipt of this plan and files of the size that it names."""
    return _receipt(images, shard).is_valid()


def is_listed(images: "Images", shard: int, receipts: dict[str, bytes], sizes: dict[str, dict[str, int]]) -> bool:
    """The same from what was listed of a remote store: receipts, and sizes of the files of each array."""
    receipt = _receipt(images, shard)
    said = receipt.read(receipts.get(receipt.path.name, b""))
    parts = _parts(images).items()
    found = {name: sizes[array].get(_file_within(array, shard, group), 0) for name, (array, group) in parts}
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
    for own in images.each_group():
        sums = own.counts(slice(rows.start, rows.stop)).sum(axis=(1, 2), dtype=np.int64)
        if (sums != own.spec.n_cells).any():
            return "an image does not sum to the number of cells"
    return None


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
        parts = _parts(images).values()
        files = [f"{array}/{_file_within(array, shard, group)}" for shard in shards for array, group in parts]
        remove_files(images.path, [*(f"receipts/{shard}.json" for shard in shards), *files])
        return
    for shard in shards:
        for path in (receipt_file(images, shard), *_receipt(images, shard).files.values()):
            path.unlink(missing_ok=True)
            for partial in (*path.parent.glob(f"{path.name}.*.partial"), *path.parent.glob(f".{path.name}.*")):
                partial.unlink(missing_ok=True)  # of a writer that was killed: zarr's, and ours of the receipt
