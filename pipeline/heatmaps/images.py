"""The image store: laid out once, written a shard at a time, every shard with a receipt, read by anyone with xarray.

Contract (Zarr v3, `format_version` 1): `counts` uint32 (pair, bin_b, bin_a), `gene_a`, `gene_b` int32 (pair), `label`
int8 (pair), `both_zero` uint32 (pair), `gene` string (gene); beside them the gene's `edges`, `mean`, `variance` and
`dropout`, and `list_row` int32 (pair) where the pairs come from a user's list. Rows beyond the attribute `n_pairs` are
padding. A missing or empty shard would read as zeros without a word, so a shard counts as written only if `receipts/`
says so, and a receipt is left only after the shard was read back.
"""

import hashlib
import json
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from pairscape.pipeline.codes.store import Codes, open_codes
from pairscape.pipeline.errors import InputError, JobError
from pairscape.pipeline.genes.pairs import Pairs
from pairscape.pipeline.genes.resolve import Vocabulary
from pairscape.pipeline.options import CHUNK_PAIRS, Binning
from pairscape.pipeline.storage.chunks import ChunkCodec, join_chunks
from pairscape.pipeline.storage.digests import SPARE, digest, keep_layout, layout_damage
from pairscape.pipeline.storage.paths import (
    content_of,
    file_sizes,
    holds_store,
    is_remote,
    located,
    publish_store,
    reaching,
    remove_files,
    root_attributes,
    small_files,
)
from pairscape.pipeline.storage.write import write_file

FORMAT, FORMAT_VERSION = "pairscape-images", 1
PAIR_ROWS = 2**17  # rows of gene_a, gene_b and label in one chunk: a task reads those of its shards
FREE = ("spec", "codes")  # where the codes lie does not change what the store holds
READERS = 4  # threads that read shards to compare them with their receipts
SHARDED = ("counts", "both_zero")  # arrays that the workers write, one file a shard each
CODEC = ChunkCodec("zstd", 1, "shuffle", 2**19)  # measured: benchmarks/codecs.py


@dataclass(frozen=True)
class ImageSpec:
    """Everything that decides the bytes of an image store, save the pairs themselves.

    Parameters
    ----------
    codes
        Path of the code store that the workers read.
    codes_hash
        Its content hash, which covers the matrix, the cells used and the binning.
    binning
        The binning of those codes.
    n_cells
        Cells counted in every image.
    n_pairs
        Candidate pairs; rows of the store beyond it are padding.
    pairs_hash
        Hex sha256 of the ordered pairs and their labels.
    """

    codes: str
    codes_hash: str
    binning: Binning
    n_cells: int
    n_pairs: int
    pairs_hash: str

    @property
    def plan_hash(self) -> str:
        """Hex sha256 that names the content: equal hashes mean equal images, wherever and however computed."""
        facts = asdict(self)
        del facts["codes"]  # where the codes lie does not change what they say
        return digest(facts)

    @property
    def n_shards(self) -> int:
        """Shards of the store, the last one padded."""
        return -(-self.n_pairs // self.binning.shard_pairs)

    def shard_rows(self, shard: int) -> range:
        """The rows of a shard that hold pairs (its padding left out)."""
        size = self.binning.shard_pairs
        return range(shard * size, min((shard + 1) * size, self.n_pairs))


@dataclass(frozen=True)
class Images:
    """An open image store: what its metadata says. Pixels are read by the row.

    Attributes
    ----------
    path
        Where it lies.
    spec
        What decided its bytes.
    provenance
        Matrix, cells, pairs and labels it was made from.
    """

    path: Path
    spec: ImageSpec
    provenance: dict[str, Any]

    def array(self, name: str) -> NDArray[Any]:
        """One of the small arrays without padding: `gene_a`, `gene_b`, `label`, `gene`, `edges`, `mean` and so on."""
        array = stored_array(str(self.path), self.spec.plan_hash, name)
        pairwise = name in ("gene_a", "gene_b", "label", "both_zero")
        return np.asarray(array[: self.spec.n_pairs] if pairwise else array[:])

    def pair_column(self, name: str, start: int, stop: int) -> NDArray[np.int32]:
        """`gene_a` or `gene_b` of the rows start to stop: (P,) int32. A chunk once read serves the next shards too."""
        chunks = range(start // PAIR_ROWS, -(-stop // PAIR_ROWS))
        parts = [_pair_chunk(str(self.path), self.spec.plan_hash, name, chunk) for chunk in chunks]
        first = chunks.start * PAIR_ROWS
        return (np.concatenate(parts) if len(parts) > 1 else parts[0])[start - first : stop - first]

    def counts(self, rows: slice) -> NDArray[np.uint32]:
        """Images of a range of rows: (P, bins, bins) uint32."""
        return self._rows("counts", rows)

    def both_zero(self, rows: slice) -> NDArray[np.uint32]:
        """Cells in which neither gene is expressed, for a range of rows: (P,) uint32."""
        return self._rows("both_zero", rows)

    def _rows(self, name: str, rows: slice) -> NDArray[np.uint32]:
        try:
            return np.asarray(stored_array(str(self.path), self.spec.plan_hash, name)[rows])
        except (ValueError, RuntimeError) as error:  # of the checksum, or of a codec
            raise damaged(self, (rows.start or 0) // self.spec.binning.shard_pairs, error) from error

    def pairs(self) -> Pairs:
        """All pairs in the order of the store."""
        return Pairs(self.array("gene_a"), self.array("gene_b"), self.array("label"))

    def list_row(self) -> NDArray[np.int32] | None:
        """Row of the user's list of pairs that names each pair first, (P,); None where they come from no list."""
        if not (self.path / "list_row").is_dir():
            return None
        return np.asarray(stored_array(str(self.path), self.spec.plan_hash, "list_row")[: self.spec.n_pairs])

    def symbols(self) -> list[str] | None:
        """Symbols beside the names in `gene`, "" where a gene has none; None where the matrix had none."""
        if not (self.path / "symbol").is_dir():
            return None
        return [str(symbol) for symbol in np.asarray(stored_array(str(self.path), self.spec.plan_hash, "symbol")[:])]

    def missing_shards(self) -> list[int]:
        """Shards without a valid receipt."""
        shards = range(self.spec.n_shards)
        if not is_remote(self.path):
            return [shard for shard in shards if not has_receipt(self, shard)]
        receipts, sizes = small_files(self.path / "receipts"), {name: file_sizes(self.path / name) for name in SHARDED}
        return [shard for shard in shards if not _is_complete(self, shard, receipts.get(f"{shard}.json"), sizes)]


def damaged(images: Images, shard: int, error: Exception) -> JobError:
    """A shard cannot be read, in words."""
    return JobError(
        f"shard {shard} of {images.path} is damaged ({error}), so its images would be wrong; check the disk, and run "
        f"`pairscape verify {images.path} --repair`: it makes this shard anew."
    )


@lru_cache(maxsize=32)
def stored_array(path: str, plan_hash: str, name: str) -> zarr.Array[Any]:
    """An array of a store, with padding. Opened once per process and content: the path may hold another job later."""
    return zarr.open_array(path, path=name, mode="r")


@lru_cache(maxsize=8)
def _pair_chunk(path: str, plan_hash: str, name: str, chunk: int) -> NDArray[np.int32]:
    return np.asarray(stored_array(path, plan_hash, name)[chunk * PAIR_ROWS : (chunk + 1) * PAIR_ROWS])


def create_images(
    path: Path,
    spec: ImageSpec,
    pairs: Pairs,
    codes: Codes,
    provenance: dict[str, Any],
    symbols: Sequence[str] | None = None,
) -> None:
    """Lay out an image store with everything but the images.

    It is made aside and moved to its place whole, so a half-made one is never seen; in object storage its root comes
    last.

    Parameters
    ----------
    pairs
        In the order of the store.
    codes
        The codes that will be counted.
    symbols
        Of the genes of the codes, by which pairs and lists may name them too. Absent: they have none.
    """
    aside = path.with_name(f".{path.name}.wip")  # one name, so that a killed run's remains are replaced
    root = zarr.create_group(str(aside), zarr_format=3, overwrite=True)
    rows = spec.n_shards * spec.binning.shard_pairs
    _create_sharded(root, spec.binning, rows)
    columns: dict[str, NDArray[Any] | None] = {
        "gene_a": pairs.gene_a,
        "gene_b": pairs.gene_b,
        "label": pairs.label,
        "list_row": pairs.list_row,
    }
    for name, values in {name: values for name, values in columns.items() if values is not None}.items():
        array = root.create_array(
            name,
            shape=(rows,),
            chunks=(min(rows, PAIR_ROWS),),
            dtype=values.dtype,
            fill_value=-1,
            dimension_names=("pair",),
        )
        array[: spec.n_pairs] = values
    for name, dims in {
        "edges": ("gene", "edge"),
        **dict.fromkeys(("mean", "variance", "dropout", "gene"), ("gene",)),
    }.items():
        root.create_array(name, data=codes.array(name), dimension_names=dims)
    if symbols is not None:
        root.create_array("symbol", data=np.asarray(symbols, np.dtypes.StringDType()), dimension_names=("gene",))
    root.create_group("receipts")
    root.create_group(SPARE)
    root.attrs.update(_attributes(spec, provenance))
    with warnings.catch_warnings():
        # true, and intended: without it every opening lists the store, with it other readers lose nothing
        warnings.filterwarnings("ignore", message="Consolidated metadata is currently not part", category=UserWarning)
        zarr.consolidate_metadata(str(aside))
    keep_layout(aside, FREE)
    publish_store(aside, path)


def _create_sharded(root: zarr.Group, binning: Binning, rows: int) -> None:
    bins, shard = binning.bins, binning.shard_pairs
    compressors = CODEC.compressors()
    root.create_array(
        "counts",
        shape=(rows, bins, bins),
        chunks=(CHUNK_PAIRS, bins, bins),
        shards=(shard, bins, bins),
        dtype="uint32",
        fill_value=0,
        compressors=compressors,
        dimension_names=("pair", "bin_b", "bin_a"),
    )
    root.create_array(
        "both_zero",
        shape=(rows,),
        chunks=(shard,),
        dtype="uint32",
        fill_value=0,
        compressors=compressors,
        dimension_names=("pair",),
    )


def _attributes(spec: ImageSpec, provenance: dict[str, Any]) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "bins": spec.binning.bins,
        "scale": spec.binning.scale,
        "n_cells": spec.n_cells,
        "n_pairs": spec.n_pairs,
        "plan_hash": spec.plan_hash,
        "spec": asdict(spec),
        "provenance": provenance,
    }


def open_images(path: str | Path, *, complete: bool = True) -> Images:
    """Open an image store.

    Parameters
    ----------
    path
        A folder, or a URL that fsspec knows, such as s3://bucket/images.zarr.
    complete
        Whether every shard must be there.

    Raises
    ------
    InputError
        No store, another kind of store, another version, shards are missing, or the storage refuses.
    JobError
        It must be complete, and its small files are damaged.
    """
    path = located(path)
    with reaching(path):
        images = Images(path, *_read_attributes(path))
        if complete:
            require_layout(path)
        missing = images.missing_shards() if complete else []
    if missing:
        raise InputError(
            f"{path} is half-written: {len(missing)} of {images.spec.n_shards} shards have no valid receipt (first: "
            f"{missing[0]}), and would read as zeros; run the same `pairscape heatmaps` again, it will finish the rest."
        )
    return images


def require_layout(path: Path) -> None:
    """Refuse a store whose small files are not what they were: pairs, labels and edges would be others.

    Raises
    ------
    JobError
        Which file is damaged.
    """
    if not is_remote(path) and (wrong := layout_damage(path, FREE, copies=False)):
        name, what = next(iter(wrong.items()))
        raise JobError(
            f"{path} is damaged: {name} {what}, and would be read as if nothing were wrong; run `pairscape verify "
            f"{path} --repair`."
        )


def _read_attributes(path: Path) -> tuple[ImageSpec, dict[str, Any]]:
    if not (holds_store(path) if is_remote(path) else path.is_dir()):
        raise InputError(f"{path}: no such image store; make it with `pairscape heatmaps`.")
    try:
        attrs = root_attributes(path)
        found = attrs["format"], attrs["format_version"]
    except InputError:  # the storage refuses
        raise
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{path} is not a Pairscape image store; make one with `pairscape heatmaps`.") from error
    if found != (FORMAT, FORMAT_VERSION):
        raise InputError(
            f"{path} has format {found[0]} version {found[1]}, but this one reads {FORMAT} version {FORMAT_VERSION}; "
            "its numbers could mean something else: make the store again, or use the Pairscape that wrote it."
        )
    spec = dict(attrs["spec"])
    return ImageSpec(**{**spec, "binning": Binning(**spec["binning"])}), attrs["provenance"]


def find_pair(images: Images, gene_a: str, gene_b: str) -> tuple[int, bool]:
    """Row of a pair, and whether the store holds it the other way round.

    Raises
    ------
    InputError
        A gene that the store does not know, or a pair that was no candidate.
    """
    vocabulary = Vocabulary(images.array("gene").tolist(), images.symbols(), min_matched=1.0, advise=False)
    a, b = vocabulary.find([gene_a, gene_b]).index
    pairs = images.pairs()
    for first, second, turned in ((a, b, False), (b, a, True)):
        rows = np.flatnonzero((pairs.gene_a == first) & (pairs.gene_b == second))
        if rows.size:
            return int(rows[0]), turned
    raise InputError(
        f"{images.path} has no image of {gene_a} and {gene_b}: they were no candidate pair; add them to the list."
    )


def counted_codes(images: Images, purpose: str, otherwise: str) -> Codes:
    """The codes that a store was counted from: where they were, or beside the images if both were moved.

    Parameters
    ----------
    purpose
        What they are needed for, to follow "and" in the message.
    otherwise
        What to do without them.

    Raises
    ------
    InputError
        They are gone, or others are there.
    """
    there = located(images.spec.codes)
    for path in (there,) if is_remote(images.path) else (there, images.path.parent / there.name):
        if holds_store(path) and (codes := open_codes(path)).content_hash == images.spec.codes_hash:
            return codes
    raise InputError(
        f"{there} no longer holds the codes that {images.path} was counted from, and {purpose}; run the same "
        f"`pairscape heatmaps` again (into another store, if need be), or {otherwise}."
    )


def shard_file(images: Images, array: str, shard: int) -> Path:
    """The file that holds a shard of `counts` or `both_zero`."""
    return images.path / array / _file_within(array, shard)


def _file_within(array: str, shard: int) -> str:
    return f"c/{shard}/0/0" if array == "counts" else f"c/{shard}"


def receipt_file(images: Images, shard: int) -> Path:
    """The receipt of a shard."""
    return images.path / "receipts" / f"{shard}.json"


def encode_shard(
    images: Images, shard: int, counts: NDArray[np.uint32], both_zero: NDArray[np.uint32]
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


def publish_shard(images: Images, shard: int, content: dict[str, bytes]) -> int:
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


def _chunks(images: Images, shard: int, counts: NDArray[np.uint32]) -> Iterator[bytes | None]:
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


def _facts(images: Images, shard: int) -> dict[str, Any]:
    """What the receipt of a shard has to say, whatever its bytes are."""
    rows, spec = images.spec.shard_rows(shard), images.spec
    return {
        "plan_hash": spec.plan_hash,
        "shard": shard,
        "rows": [rows.start, rows.stop],
        "total": len(rows) * spec.n_cells,
    }


def _rendered(images: Images, shard: int, described: dict[str, Any]) -> bytes:
    """The receipt of a shard, to the byte."""
    return json.dumps({**_facts(images, shard), **{name: described[name] for name in SHARDED}}).encode()


def _description(content: bytes | None) -> dict[str, Any]:
    """Size and checksum of a file; None: there is none, since it would hold only zeros."""
    if content is None:
        return {"bytes": 0, "sha256": None}
    return {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def _describe(path: Path) -> dict[str, Any]:
    return _description(content_of(path))


def _read_receipt(images: Images, shard: int) -> dict[str, Any] | None:
    try:
        content = content_of(receipt_file(images, shard))
    except OSError:  # unreadable: the shard counts as missing
        return None
    return _valid_receipt(images, shard, content) if content is not None else None


def _valid_receipt(images: Images, shard: int, content: bytes) -> dict[str, Any] | None:
    """What a receipt says; None if it is half of one, or of another plan."""
    try:
        receipt = json.loads(content)
    except ValueError:
        return None
    if not isinstance(receipt, dict) or any(receipt.get(k) != v for k, v in _facts(images, shard).items()):
        return None
    described = all(isinstance(receipt.get(name), dict) and "bytes" in receipt[name] for name in SHARDED)
    return receipt if described else None


def has_receipt(images: Images, shard: int) -> bool:
    """Whether a shard has a receipt of this plan and files of the size that it names."""
    receipt = _read_receipt(images, shard)
    if receipt is None:
        return False
    files = {name: shard_file(images, name, shard) for name in SHARDED}
    return all(
        (files[name].stat().st_size if files[name].exists() else 0) == receipt[name]["bytes"] for name in SHARDED
    )


def _is_complete(images: Images, shard: int, content: bytes | None, sizes: dict[str, dict[str, int]]) -> bool:
    """The same from what was listed of a remote store."""
    receipt = _valid_receipt(images, shard, content) if content is not None else None
    return receipt is not None and all(
        sizes[name].get(_file_within(name, shard), 0) == receipt[name]["bytes"] for name in SHARDED
    )


def damage(images: Images, shard: int) -> str | None:
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


def differing_shards(images: Images) -> list[int]:
    """Shards whose files are not those that their receipts describe; every byte is read.

    Shards without a receipt are among them.
    """

    def differs(shard: int) -> bool:
        receipt = _read_receipt(images, shard)
        return receipt is None or any(_describe(shard_file(images, name, shard)) != receipt[name] for name in SHARDED)

    with ThreadPoolExecutor(READERS) as readers:  # sha256 leaves Python's lock to others
        found = list(readers.map(differs, range(images.spec.n_shards)))
    return [shard for shard, wrong in enumerate(found) if wrong]


def clear_shards(images: Images, shards: Sequence[int]) -> None:
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
