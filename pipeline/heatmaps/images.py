"""The image store: laid out once, written a shard at a time, every shard with a receipt, read by anyone with xarray.

Contract (Zarr v3, `format_version` 1): `counts` uint32 (pair, bin_b, bin_a), `gene_a`, `gene_b` int32 (pair), `label`
int8 (pair), `both_zero` uint32 (pair), `gene` string (gene); beside them the gene's `edges`, `mean`, `variance` and
`dropout`, and `list_row` int32 (pair) where the pairs come from a user's list. Rows beyond the attribute `n_pairs` are
padding. A missing or empty shard would read as zeros without a word, so a shard counts as written only if `receipts/`
says so, and a receipt is left only after the shard was read back.

With groups of cells (`format_version` 2) `counts` and `both_zero` have a leading dimension `group`, a file a group and
shard; `group` string and `group_cells` int64 (group) name them, `cell_group` uint16 (cell) has the group of each cell
of the codes. A receipt covers the files of all groups.
"""

import hashlib
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from pairscape.pipeline.codes.store import Codes, open_codes
from pairscape.pipeline.errors import InputError, JobError, printable
from pairscape.pipeline.genes.pairs import Pairs
from pairscape.pipeline.genes.resolve import Vocabulary
from pairscape.pipeline.heatmaps.shards import SHARDED, has_receipt, is_listed
from pairscape.pipeline.matrix.cell_groups import CellGroups
from pairscape.pipeline.options import Binning
from pairscape.pipeline.storage.codecs import open_array_to_read
from pairscape.pipeline.storage.digests import digest, layout_damage
from pairscape.pipeline.storage.paths import (
    file_sizes,
    holds_store,
    is_remote,
    located,
    reaching,
    root_attributes,
    small_files,
)

FORMAT, FORMAT_VERSION, GROUPED_VERSION = "pairscape-images", 1, 2
PAIR_ROWS = 2**17  # rows of gene_a, gene_b and label in one chunk: a task reads those of its shards
FREE = ("spec", "codes")  # where the codes lie does not change what the store holds


@dataclass(frozen=True)
class GroupSpec:
    """Groups of cells that are counted apart.

    Attributes
    ----------
    columns
        Of obs, by which cells are grouped.
    names, cells
        Of the groups: what each is called, and its cells.
    cells_hash
        Hex sha256 of the group of every cell.
    """

    columns: tuple[str, ...]
    names: tuple[str, ...]
    cells: tuple[int, ...]
    cells_hash: str

    def __post_init__(self) -> None:
        for name in ("columns", "names", "cells"):  # JSON has lists
            object.__setattr__(self, name, tuple(getattr(self, name)))

    @classmethod
    def of(cls, groups: CellGroups) -> "GroupSpec":
        """Of cells in groups."""
        content = hashlib.sha256(np.ascontiguousarray(groups.number, "<u2").data).hexdigest()
        return cls(groups.columns, groups.names, tuple(groups.cells.tolist()), content)


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
        Cells counted in every image; where there are groups, those of all groups together.
    n_pairs
        Candidate pairs; rows of the store beyond it are padding.
    pairs_hash
        Hex sha256 of the ordered pairs and their labels.
    groups
        Of cells, counted apart. Absent: all cells are counted together.
    group
        The one that is looked at alone; "" for all cells.
    """

    codes: str
    codes_hash: str
    binning: Binning
    n_cells: int
    n_pairs: int
    pairs_hash: str
    groups: GroupSpec | None = None
    group: str = ""

    @property
    def plan_hash(self) -> str:
        """Hex sha256 that names the content: equal hashes mean equal images, wherever and however computed."""
        facts = self.facts()
        del facts["codes"]  # where the codes lie does not change what they say
        return digest(facts)

    @property
    def store_hash(self) -> str:
        """The hash of the whole store, whichever group is looked at."""
        if not self.group or self.groups is None:
            return self.plan_hash
        return replace(self, n_cells=sum(self.groups.cells), group="").plan_hash

    def facts(self) -> dict[str, Any]:
        """As the store's attributes have it, without what does not apply."""
        facts = asdict(self)
        return {name: value for name, value in facts.items() if name not in ("groups", "group") or value}

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
    class_names
        What the labels 0, 1, … mean, where they are kinds of dependence (`--classes kinds`); else ().

    Notes
    -----
    Of a store with groups of cells, `counts` and `both_zero` are those of all groups together; `of_group` gives a store
    of one group's. Facts of the genes (`mean`, `dropout`, `edges` and so on) are of all encoded cells either way.
    """

    path: Path
    spec: ImageSpec
    provenance: dict[str, Any]
    class_names: tuple[str, ...] = ()

    @property
    def values(self) -> str:
        """What kind of values its matrix holds, as `Expression.values`; "" where that is unknown."""
        return str(self.provenance.get("matrix", {}).get("values", ""))

    @property
    def groups(self) -> tuple[str, ...]:
        """Names of the groups of cells that are counted apart; () where all cells are counted together."""
        return () if self.spec.groups is None else self.spec.groups.names

    def of_group(self, name: str) -> "Images":
        """The same store, of which only the images of one group of cells are seen.

        Raises
        ------
        InputError
            It has no such group.
        """
        groups = self.spec.groups
        if groups is None or name not in groups.names:
            known = f"its groups are {', '.join(self.groups)}" if self.groups else "it has no groups of cells"
            raise InputError(printable(f"{self.path} has no group {name!r}: {known}; give one of them, or none."))
        cells = groups.cells[groups.names.index(name)]
        return replace(self, spec=replace(self.spec, n_cells=cells, group=name))

    def each_group(self) -> list["Images"]:
        """The images of each group of cells; where there are no groups, the store itself."""
        return [self.of_group(name) for name in self.groups] or [self]

    @property
    def group_numbers(self) -> list[int | None]:
        """Groups whose images are added up: all, or the one that is looked at; [None] where there are no groups."""
        if self.spec.groups is None:
            return [None]
        names = self.spec.groups.names
        return list(range(len(names))) if not self.spec.group else [names.index(self.spec.group)]

    def cell_groups(self) -> CellGroups | None:
        """The group of every cell of the codes; None where all cells are counted together."""
        if self.spec.groups is None:
            return None
        return CellGroups(self.spec.groups.columns, self.groups, self.array("cell_group"))

    def counted_cells(self) -> NDArray[np.int64] | None:
        """Cells of the codes that are counted in these images, ascending; None where all are."""
        groups = self.cell_groups()
        if groups is None:
            return None
        numbers = [number for number in self.group_numbers if number is not None]
        return np.flatnonzero(np.isin(groups.number, numbers))

    def array(self, name: str) -> NDArray[Any]:
        """One of the small arrays without padding: `gene_a`, `gene_b`, `label`, `gene`, `edges`, `mean` and so on."""
        if name == "both_zero":
            return self.both_zero(slice(0, self.spec.n_pairs))
        array = stored_array(str(self.path), self.spec.store_hash, name)
        pairwise = name in ("gene_a", "gene_b", "label")
        return np.asarray(array[: self.spec.n_pairs] if pairwise else array[:])

    def pair_column(self, name: str, start: int, stop: int) -> NDArray[np.int32]:
        """`gene_a` or `gene_b` of the rows start to stop: (P,) int32. A chunk once read serves the next shards too."""
        chunks = range(start // PAIR_ROWS, -(-stop // PAIR_ROWS))
        parts = [_pair_chunk(str(self.path), self.spec.store_hash, name, chunk) for chunk in chunks]
        first = chunks.start * PAIR_ROWS
        return (np.concatenate(parts) if len(parts) > 1 else parts[0])[start - first : stop - first]

    def counts(self, rows: slice) -> NDArray[np.uint32]:
        """Images of a range of rows: (P, bins, bins) uint32."""
        return self._rows("counts", rows)

    def both_zero(self, rows: slice) -> NDArray[np.uint32]:
        """Cells in which neither gene is expressed, for a range of rows: (P,) uint32."""
        return self._rows("both_zero", rows)

    def _rows(self, name: str, rows: slice) -> NDArray[np.uint32]:
        array = stored_array(str(self.path), self.spec.store_hash, name)
        try:
            first, *others = (array[rows] if group is None else array[group, rows] for group in self.group_numbers)
            total = np.asarray(first)
            for other in others:
                total += np.asarray(other)
            return total
        except (ValueError, RuntimeError) as error:  # of the checksum, or of a codec
            raise damaged(self, (rows.start or 0) // self.spec.binning.shard_pairs, error) from error

    def pairs(self) -> Pairs:
        """All pairs in the order of the store."""
        labelled = self.array("gene_a"), self.array("gene_b"), self.array("label")
        return Pairs(*labelled, class_names=self.class_names)

    def list_row(self) -> NDArray[np.int32] | None:
        """Row of the user's list of pairs that names each pair first, (P,); None where they come from no list."""
        if not (self.path / "list_row").is_dir():
            return None
        return np.asarray(stored_array(str(self.path), self.spec.store_hash, "list_row")[: self.spec.n_pairs])

    def symbols(self) -> list[str] | None:
        """Symbols beside the names in `gene`, "" where a gene has none; None where the matrix had none."""
        if not (self.path / "symbol").is_dir():
            return None
        return [str(symbol) for symbol in np.asarray(stored_array(str(self.path), self.spec.store_hash, "symbol")[:])]

    def missing_shards(self) -> list[int]:
        """Shards without a valid receipt."""
        shards = range(self.spec.n_shards)
        if not is_remote(self.path):
            return [shard for shard in shards if not has_receipt(self, shard)]
        receipts, sizes = small_files(self.path / "receipts"), {name: file_sizes(self.path / name) for name in SHARDED}
        return [shard for shard in shards if not is_listed(self, shard, receipts, sizes)]


def damaged(images: Images, shard: int, error: Exception) -> JobError:
    """A shard cannot be read, in words."""
    return JobError(
        f"shard {shard} of {images.path} is damaged ({error}), so its images would be wrong; check the disk, and run "
        f"`pairscape verify {images.path} --repair`: it makes this shard anew."
    )


@lru_cache(maxsize=32)
def stored_array(path: str, plan_hash: str, name: str) -> zarr.Array[Any]:
    """An array of a store, with padding. Opened once per process and content: the path may hold another job later."""
    return open_array_to_read(path, name)


@lru_cache(maxsize=8)
def _pair_chunk(path: str, plan_hash: str, name: str, chunk: int) -> NDArray[np.int32]:
    return np.asarray(stored_array(path, plan_hash, name)[chunk * PAIR_ROWS : (chunk + 1) * PAIR_ROWS])


def open_images(path: str | Path, *, complete: bool = True, group: str | None = None) -> Images:
    """Open an image store.

    Parameters
    ----------
    path
        A folder, or a URL that fsspec knows, such as s3://bucket/images.zarr.
    complete
        Whether every shard must be there.
    group
        Of cells, whose images alone are seen. Absent: those of all groups together.

    Raises
    ------
    InputError
        No store, another kind of store, another version, no such group, shards are missing, or the storage refuses.
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
    return images if group is None else images.of_group(group)


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


def _read_attributes(path: Path) -> tuple[ImageSpec, dict[str, Any], tuple[str, ...]]:
    if not (holds_store(path) if is_remote(path) else path.is_dir()):
        raise InputError(f"{path}: no such image store; make it with `pairscape heatmaps`.")
    try:
        attrs = root_attributes(path)
        found = attrs["format"], attrs["format_version"]
    except InputError:  # the storage refuses
        raise
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{path} is not a Pairscape image store; make one with `pairscape heatmaps`.") from error
    grouped = "groups" in attrs.get("spec", {})
    if found != (FORMAT, GROUPED_VERSION if grouped else FORMAT_VERSION):
        raise InputError(
            f"{path} has format {found[0]} version {found[1]}, but this one reads {FORMAT} version {FORMAT_VERSION}, "
            f"and {GROUPED_VERSION} with groups of cells; its numbers could mean something else: make the store again, "
            "or use the Pairscape that wrote it."
        )
    spec = dict(attrs["spec"])
    spec["binning"] = Binning(**spec["binning"])
    if grouped:
        spec["groups"] = GroupSpec(**spec["groups"])
    return ImageSpec(**spec), attrs["provenance"], tuple(attrs.get("class_names", ()))


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
    """The codes that a store was counted from, all of whose cells are counted in it.

    Raises
    ------
    InputError
        As `encoded_cells`; the images are of some groups of the cells only.
    """
    codes = encoded_cells(images, purpose, otherwise)
    if images.spec.n_cells == codes.n_cells:
        return codes
    which = f"of the group {images.spec.group}" if images.spec.group else "of cells in groups"
    raise InputError(printable(
        f"the images of {images.path} are {which}, {images.spec.n_cells:,} of the {codes.n_cells:,} cells of "
        f"{codes.path}, and {purpose}, over all cells; count those cells alone (`pairscape ingest --cells`), or "
        f"{otherwise}."
    ))  # fmt: skip


def encoded_cells(images: Images, purpose: str, otherwise: str) -> Codes:
    """The codes that a store was counted from: where they were, or beside the images if both were moved.

    With groups of cells they may hold cells that are in none of them: `Images.counted_cells` says which are.

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
