"""Shards of an image store: their files, compressed and written, their receipts, and what is wrong with them."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pairscape.pipeline.errors import JobError
from pairscape.pipeline.options import CHUNK_PAIRS
from pairscape.pipeline.storage.chunks import ChunkCodec, join_chunks
from pairscape.pipeline.storage.paths import content_of, is_remote, remove_files
from pairscape.pipeline.storage.write import write_file

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
    for name in SHARDED:
        file = shard_file(images, name, shard)
        write_file(file, content[name])
        if content[name] and content_of(file) != content[name]:
            raise JobError(f"{file}: read back it differs from what was written; check the disk.")
    described = {name: _description(content[name] or None) for name in SHARDED}
    write_file(receipt_file(images, shard), _rendered(images, shard, described))
    return sum(len(part) for part in content.values())


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


def _facts(images: "Images", shard: int) -> dict[str, Any]:
    """What the receipt of a shard has to say, whatever its bytes are."""
    rows, spec = images.spec.shard_rows(shard), images.spec
    return {
        "plan_hash": spec.plan_hash,
        "shard": shard,
        "rows": [rows.start, rows.stop],
        "total": len(rows) * spec.n_cells,
    }


def _rendered(images: "Images", shard: int, described: dict[str, Any]) -> bytes:
    """The receipt of a shard, to the byte."""
    return json.dumps({**_facts(images, shard), **{name: described[name] for name in SHARDED}}).encode()


def _description(content: bytes | None) -> dict[str, Any]:
    """Size and checksum of a file; None: there is none, since it would hold only zeros."""
    if content is None:
        return {"bytes": 0, "sha256": None}
    return {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def _describe(path: Path) -> dict[str, Any]:
    return _description(content_of(path))


def _read_receipt(images: "Images", shard: int) -> dict[str, Any] | None:
    try:
        content = content_of(receipt_file(images, shard))
    except OSError:  # unreadable: the shard counts as missing
        return None
    return _valid_receipt(images, shard, content) if content is not None else None


def _valid_receipt(images: "Images", shard: int, content: bytes) -> dict[str, Any] | None:
    """What a receipt says; None if it is half of one, or of another plan."""
    try:
        receipt = json.loads(content)
    except ValueError:
        return None
    if not isinstance(receipt, dict) or any(receipt.get(k) != v for k, v in _facts(images, shard).items()):
        return None
    described = all(isinstance(receipt.get(name), dict) and "bytes" in receipt[name] for name in SHARDED)
    return receipt if described else None


def has_receipt(images: "Images", shard: int) -> bool:
    """Whether a shard has a receipt of this plan and files of the size that it names."""
    receipt = _read_receipt(images, shard)
    if receipt is None:
        return False
    files = {name: shard_file(images, name, shard) for name in SHARDED}
    return all(
        (files[name].stat().st_size if files[name].exists() else 0) == receipt[name]["bytes"] for name in SHARDED
    )


def _is_complete(images: "Images", shard: int, content: bytes | None, sizes: dict[str, dict[str, int]]) -> bool:
    """The same from what was listed of a remote store."""
    receipt = _valid_receipt(images, shard, content) if content is not None else None
    return receipt is not None and all(
        sizes[name].get(_file_within(name, shard), 0) == receipt[name]["bytes"] for name in SHARDED
    )


def damage(images: "Images", shard: int) -> str | None:
    """What is wrong with a shard, in words; None if its receipt, its bytes and its counts all agree."""
    receipt = _read_receipt(images, shard)
    if receipt is None:
        return "no valid receipt"
    for name in SHARDED:
        if _describe(shard_file(images, name, shard)) != receipt[name]:
            return f"{name} is not the file the receipt describes"
    if receipt_file(images, shard).read_bytes() != _rendered(images, shard, receipt):
        return "the receipt was edited"
    rows = images.spec.shard_rows(shard)
    sums = images.counts(slice(rows.start, rows.stop)).sum(axis=(1, 2), dtype=np.int64)
    return None if (sums == images.spec.n_cells).all() else "an image does not sum to the number of cells"


def differing_shards(images: "Images") -> list[int]:
    """Shards whose files are not those that their receipts describe; every byte is read.

    Shards without a receipt are among them.
    """

    def differs(shard: int) -> bool:
        receipt = _read_receipt(images, shard)
        return receipt is None or any(_describe(shard_file(images, name, shard)) != receipt[name] for name in SHARDED)

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
