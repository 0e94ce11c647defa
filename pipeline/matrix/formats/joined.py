"""Several sources as one, such as an atlas in many files: cells below each other, genes joined by name."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import reduce
from itertools import takewhile

import anndata
import numpy as np
import pandas as pd
from anndata import AnnData
from anndata.utils import make_index_unique
from numpy.typing import NDArray
from scipy import sparse

from pairscape.pipeline.errors import InputError
from pairscape.pipeline.matrix.source import Positioned, Reader, Source
from pairscape.pipeline.options import Join
from pairscape.pipeline.storage.digests import digest
from pairscape.pipeline.storage.paths import name_of


@dataclass(frozen=True, eq=False)
class Stacked:
    """The cells of several readers below each other.

    Attributes
    ----------
    parts
        The readers.
    starts
        Where the cells of each begin, and where the last end.
    n_genes
        Of the joined matrix.
    """

    parts: tuple[Reader, ...]
    starts: tuple[int, ...]
    n_genes: int

    def rows(self, start: int, stop: int) -> sparse.csr_matrix:
        """The lines start to stop as canonical CSR, see `Reader.rows`."""
        blocks = [
            part.rows(max(start - first, 0), min(stop, last) - first)
            for part, first, last in zip(self.parts, self.starts, self.starts[1:], strict=False)
            if first < stop and start < last
        ]
        if not blocks:
            return sparse.csr_matrix((stop - start, self.n_genes), dtype=np.float32)
        return blocks[0] if len(blocks) == 1 else sparse.vstack(blocks, format="csr")


def joined(sources: Sequence[Source], join: Join) -> Source:
    """Join sources on their genes, in the order of the first; `obs["source"]` tells where a cell is from.

    Parameters
    ----------
    join
        "inner": the genes that all have. "outer": those that any has, in order of first appearance; a gene that a
        source lacks is expressed in none of its cells.

    Raises
    ------
    InputError
        A source shares no gene with those before it, or its values are of another kind.
    """
    _refuse_mixture(sources)
    genes = _common(sources, join)
    positions: dict[tuple[str, ...], NDArray[np.int32]] = {}
    for source in sources:  # files of one atlas share their genes, and then one array that says where they go
        names = tuple(source.var.index)
        positions.setdefault(names, genes.get_indexer(pd.Index(names, dtype=object)).astype(np.int32))
    own = [positions[tuple(source.var.index)] for source in sources]
    starts = (0, *np.cumsum([len(source.obs) for source in sources]).tolist())
    counts = [source.counts for source in sources]
    known = [reader for reader in counts if reader is not None]
    return replace(
        sources[0],
        name=f"{sources[0].name} and {len(sources) - 1} more",
        obs=_obs(sources),
        var=_var(sources, genes),
        values=_stacked([source.values for source in sources], own, starts, len(genes)),
        counts=_stacked(known, own, starts, len(genes)) if len(known) == len(counts) else None,
        orientation_from="assumption" if any(s.orientation_from == "assumption" for s in sources) else
        sources[0].orientation_from,
        stamp=digest({"join": join, "stamps": [source.stamp for source in sources]}),
        block_cells=max(source.block_cells for source in sources),
        notes=_notes(sources, genes, join, 0 < len(known) < len(counts)),
        judged=next((s.judged for s in sources if s.judged.kind == "fractional counts"), sources[0].judged),
    )  # fmt: skip


def _refuse_mixture(sources: Sequence[Source]) -> None:
    first = sources[0]
    other = next((source for source in sources[1:] if source.judged.differs(first.judged)), None)
    if other is not None:
        raise InputError(
            f"{first.name} holds {first.judged.words()} ({first.judged.why}), and {other.name} {other.judged.words()} "
            f"({other.judged.why}): in one matrix they would mean different things; give the same kind of values of "
            "both, such as the raw counts (--layer), or ingest them one by one"
        )


def _common(sources: Sequence[Source], join: Join) -> pd.Index:
    first = sources[0]
    for other in sources[1:]:
        if not len(first.var.index.intersection(other.var.index)):
            own, its = (", ".join(source.var.index[:3]) for source in (first, other))
            raise InputError(
                f"{first.name} and {other.name} have no gene in common: the first has {own}, the other {its}; give "
                "both the same kind of gene id"
            )
    indexes = [source.var.index for source in sources]
    if join == "outer":
        return pd.Index(dict.fromkeys(name for index in indexes for name in index), dtype=object)
    shared = reduce(lambda kept, index: kept[kept.isin(index)], indexes)
    if len(shared) < 2:
        raise InputError(
            f"{first.name} and {len(sources) - 1} more have {len(shared)} genes in common: gene pairs need two at "
            "least; give --join outer, or leave out the odd file"
        )
    return pd.Index(shared, dtype=object)


def _stacked(
    readers: Sequence[Reader], positions: Sequence[NDArray[np.int32]], starts: tuple[int, ...], n_genes: int
) -> Stacked:
    parts = []
    for reader, position in zip(readers, positions, strict=True):
        same = np.array_equal(position, np.arange(n_genes))
        parts.append(reader if same else Positioned(reader, position, n_genes))
    return Stacked(tuple(parts), starts, n_genes)


def _obs(sources: Sequence[Source]) -> pd.DataFrame:
    """Annotations of all cells, under names that are unique."""
    names = make_index_unique(pd.Index([name for source in sources for name in source.obs.index], dtype=object))
    cuts = np.cumsum([len(source.obs) for source in sources])
    parts = np.split(names, cuts[:-1])
    frames = [AnnData(obs=source.obs.set_axis(part, axis=0)) for source, part in zip(sources, parts, strict=True)]
    whole = anndata.concat(frames, join="outer", label="source", keys=labels([source.name for source in sources]))
    return pd.DataFrame(whole.obs)


def _var(sources: Sequence[Source], genes: pd.Index) -> pd.DataFrame:
    """Annotations of each gene from the first source that has it."""
    together = pd.concat([source.var for source in sources])
    return together.loc[~together.index.duplicated()].reindex(genes)


def _notes(sources: Sequence[Source], genes: pd.Index, join: Join, some_counts: bool) -> tuple[str, ...]:
    most = max(len(source.var) for source in sources)
    said = [note for source in sources for note in source.notes]
    if any(len(source.var) != len(genes) for source in sources):
        what = "in all of them" if join == "inner" else "in any of them"
        said.append(f"{len(sources)} sources of up to {most:,} genes joined: {len(genes):,} genes {what}")
    if some_counts:
        said.append("raw counts are left out: not every source has them beside its values")
    return tuple(dict.fromkeys(said))


def labels(names: Sequence[str]) -> list[str]:
    """A short name of each source: its file's without suffix; where these repeat, as much of the path as differs."""
    stems = [_stem(name_of(name)) for name in names]
    if len(set(stems)) < len(stems):
        paths = [_stem(name).split("/") for name in names]
        shared = sum(1 for _ in takewhile(lambda parts: len(set(parts)) == 1, zip(*paths, strict=False)))
        stems = ["/".join(path[min(shared, len(path) - 1) :]) for path in paths]
    return list(make_index_unique(pd.Index(stems, dtype=object)))  # AnnData in memory have no names of their own


def _stem(name: str) -> str:
    for end in (".gz", ".h5ad", ".zarr", ".h5", ".hdf5", ".hdf", ".loom", ".csv", ".tsv", ".txt", ".mtx"):
        name = name.removesuffix(end)
    return name
