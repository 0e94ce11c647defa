"""Score files of several sets as one source of rows: opened, checked, their genes matched, read a range at a time.

Genes are matched as everywhere (`pipeline.genes.union`). The files are read once for each run of first genes that
`PART_ROWS` rows of all files fill, so memory follows that number and neither the number of files nor their length.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pairscape.model.edges.edges import GeneCodes, blocks, columns_of, names_regulators
from pairscape.model.edges.pooling import Columns, Sets, signed_ranks
from pairscape.model.edges.scores import COMBINED, GENES, read_facts, read_genes_of, read_symbols
from pairscape.model.options import Combination
from pairscape.pipeline.errors import InputError
from pairscape.pipeline.genes.lists import read_gene_map
from pairscape.pipeline.genes.resolve import Vocabulary
from pairscape.pipeline.genes.union import NamedGenes, Union, unite

PART_ROWS = 2**22  # rows of all files that are pooled at a time, some 100 bytes each
READ = ("gene_a", "gene_b", "label", "score", "dependence", "correlation")
KIND = ("kind", "kind_probability")


@dataclass(frozen=True, eq=False)
class Source:
    """One set: a file of scores, or one group of it.

    Attributes
    ----------
    group
        None for a file without groups.
    sha256
        Of the file.
    """

    path: Path
    group: str | None
    facts: dict[str, Any]
    sha256: str
    cells: int
    prior: float

    @property
    def name(self) -> str:
        """What it is called in words."""
        return self.path.name if self.group is None else f"{self.path.name}, {self.group}"

    def record(self) -> dict[str, Any]:
        """What the file of scores that is made of it says of it."""
        model = self.facts.get("model") or {}
        known = {name: model.get(name) for name in ("run", "weights", "scale", "bins")}
        matrix = {"matrix": self.facts.get("matrix"), "cells": self.cells, "prior": self.prior}
        return {"file": str(self.path), "group": self.group, "sha256": self.sha256, **known, **matrix}

    def rows(self, index: NDArray[np.int64], genes: Sequence[str], columns: Sequence[str]) -> Iterator[Columns]:
        """Its columns in blocks, genes as positions in the union, without genes that are left out."""
        codes = GeneCodes({name: at for at, name in enumerate(genes)})
        for block in blocks(self.path, [*columns], codes, self.group):
            gene_a, gene_b = (index[block[name]] for name in GENES)
            kept = (gene_a >= 0) & (gene_b >= 0) & (gene_a != gene_b)
            block |= {"gene_a": gene_a, "gene_b": gene_b}
            yield {name: values[kept] for name, values in block.items()}


# ── what is asked for ────────────────────────────────────────────────────────────────────────────────────────────────


def open_sources(paths: Sequence[Path], wanted: Combination) -> list[Source]:
    """The sets that some files hold.

    Raises
    ------
    InputError
        One set alone, unless for `factors`; a file that is none of scores, names no cells, gives directions, or is a
        combination itself; the same file twice; an unknown group; different networks, or different things taken out,
        and not `mixed`.
    """
    sources = list[Source]()
    for path in paths:
        facts = read_facts(path)
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        if twice := [source for source in sources if source.sha256 == sha256]:
            raise InputError(
                f"{path} has the same content as {twice[0].path}, which would count twice; give each set once."
            )
        sources += _sets_of(path, facts, sha256, wanted.group, alone=len(paths) == 1)
    if len(sources) < 2 and wanted.rule != "factors":
        raise InputError(
            f"{paths[0]} is one set, and pooling takes two or more; give further files before the one to write, or a "
            "file with groups (predict --by); of one set alone --rule factors tells what all of its pairs share."
        )
    for source in sources:
        _require_poolable(source)
    if not wanted.mixed:
        _require_alike(sources)
    return sources


def _sets_of(path: Path, facts: dict[str, Any], sha256: str, group: str | None, *, alone: bool) -> list[Source]:
    """The set of a file; of a single file with groups each group."""
    groups = facts.get("groups") or {}
    names, cells = list(groups.get("names") or ()), list(groups.get("cells") or ())
    prior, n_cells = facts.get("prior"), (facts.get("matrix") or {}).get("n_cells") or 0
    if "combined" in facts:
        raise InputError(f"{path} is pooled from other files; give those in its place, so that each counts once.")
    if group is not None and group != COMBINED and group not in names:
        there = f"it has {', '.join(names)}" if names else "it has no groups (predict --by makes them)"
        raise InputError(f"{path}: no group {group!r}; {there}.")
    if not names:
        return [Source(path, None, facts, sha256, int(n_cells), float(prior or 0))]
    size = dict(zip(names, cells, strict=True)) | {COMBINED: int(n_cells) or sum(cells)}
    taken = names if alone and group is None else [group or COMBINED]
    return [Source(path, name, facts, sha256, int(size[name]), float(prior or 0)) for name in taken]


def _require_poolable(source: Source) -> None:
    if "forward" in columns_of(source.path):
        raise InputError(
            f"{source.path}: its network says which way an edge points, and evidence for two directions is not summed; "
            "combine scores of a network without direction, such as universal."
        )
    if not source.cells or not 0 < source.prior < 1:
        raise InputError(
            f"{source.path} does not say how many cells it was scored on, or at which prior, so its evidence has no "
            "weight; predict again."
        )


def _require_alike(sources: Sequence[Source]) -> None:
    """One network, one rule of binning, and the same taken out."""
    first = sources[0]
    for other in sources[1:]:
        for words, of in (("network", _network), ("rule of binning", _binning), ("--within", _within)):
            if of(first) != of(other):
                raise InputError(
                    f"{first.path} and {other.path} differ in the {words} ({of(first)} and {of(other)}), so their "
                    "scores mean different things; predict all sets alike, or give --mixed to pool them all the same."
                )


def _network(source: Source) -> str:
    return str((source.facts.get("model") or {}).get("weights"))[:12]


def _binning(source: Source) -> str:
    model = source.facts.get("model") or {}
    return f"{model.get('scale')}, {model.get('bins')} bins"


def _within(source: Source) -> str:
    return ", ".join(source.facts.get("within") or ()) or "nothing"


# ── rows of all of them ──────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, eq=False)
class Pool:
    """Sets whose genes are matched.

    Attributes
    ----------
    genes
        Of each source, as its file names them.
    known
        How a list may name the genes of the union.
    ordered
        Whether the first gene of a pair is a regulator in all files, so that (a, b) is not (b, a).
    columns
        What is read of the files.
    ranked
        Whether rows get their rank among all of their source.
    """

    sources: tuple[Source, ...]
    genes: tuple[tuple[str, ...], ...]
    union: Union
    known: Vocabulary
    ordered: bool
    columns: tuple[str, ...]
    ranked: bool

    @cached_property
    def sets(self) -> Sets:
        """Cells and priors of the sources."""
        return Sets(np.array([s.cells for s in self.sources], float), np.array([s.prior for s in self.sources], float))

    @property
    def most(self) -> int:
        """Above every key."""
        return len(self.union.names) ** 2

    def key_of(self, a: NDArray[np.int64], b: NDArray[np.int64]) -> NDArray[np.int64]:
        """A number for each pair of genes of the union."""
        first, second = (a, b) if self.ordered else (np.minimum(a, b), np.maximum(a, b))
        return np.asarray(first * len(self.union.names) + second)

    def blocks(self, number: int, columns: Sequence[str]) -> Iterator[Columns]:
        """Rows of a source with their keys."""
        for block in self.sources[number].rows(self.union.index[number], self.genes[number], columns):
            gene_a, gene_b = (block.pop(name) for name in GENES)
            key = self.key_of(gene_a, gene_b)
            yield block | {"key": key, "turned": gene_a != key // len(self.union.names)}

    def rows(self, low: int, high: int, keys: NDArray[np.int64] | None = None) -> tuple[Columns, int]:
        """Rows of all sources with keys from low to below high, or of these alone, sorted; how many were repeats."""
        found = list[Columns]()
        for number in range(len(self.sources)):
            held, sizes = list[Columns](), list[NDArray[np.floating]]()
            for block in self.blocks(number, self.columns):
                kept = (block["key"] >= low) & (block["key"] < high)
                if keys is not None:
                    kept &= np.isin(block["key"], keys)
                sizes.append(block["correlation"] if self.ranked else block["correlation"][:0])
                held.append({name: values[kept] for name, values in block.items()} | {"at": np.flatnonzero(kept)})
            found.append(_of_source(held, sizes, number, self.ranked))
        rows = _joined(found)
        order = np.argsort(rows["key"], kind="stable")
        rows = {name: values[order] for name, values in rows.items()}
        again = np.zeros(order.size, bool)
        again[1:] = (np.diff(rows["key"]) == 0) & (np.diff(rows["set"]) == 0)
        return {name: values[~again] for name, values in rows.items()}, int(again.sum())

    def genes_of(self, rows: Columns) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """The first and the second gene of rows, as their file has them."""
        ends = [end.astype(np.int32) for end in np.divmod(rows["key"], len(self.union.names))]
        return tuple(np.where(rows["turned"], *some) for some in (ends[::-1], ends))  # type: ignore[return-value]

    def parts(self) -> list[tuple[int, int]]:
        """Ranges of keys of about `PART_ROWS` rows each."""
        size = len(self.union.names)
        count = np.zeros(size, np.int64)
        for number in range(len(self.sources)):
            for block in self.blocks(number, GENES):
                count += np.bincount(block["key"] // size, minlength=size)
        part = (np.cumsum(count) - 1) // PART_ROWS
        first = np.flatnonzero(np.diff(np.maximum(part, 0), prepend=-1))
        return list(zip((first * size).tolist(), [*(first[1:] * size).tolist(), size * size], strict=True))


def _of_source(held: list[Columns], correlations: list[NDArray[np.floating]], number: int, ranked: bool) -> Columns:
    """Rows of one source, joined; with their ranks among all pairs of the source where they are asked for."""
    rows = _joined(held)
    if ranked:
        length = np.cumsum([0, *(values.size for values in correlations)])
        at = [part.pop("at") + start for part, start in zip(held, length[:-1].tolist(), strict=True)]
        rows["rank"] = signed_ranks(np.concatenate(correlations))[np.concatenate(at)]
    rows.pop("at")
    return rows | {"set": np.full(rows["key"].size, number, np.int16)}


def _joined(parts: Sequence[Columns]) -> Columns:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def match_genes(sources: Sequence[Source], wanted: Combination) -> Pool:
    """The sources with their genes as one list.

    Raises
    ------
    InputError
        A gene map that cannot be read or matches nothing; a file that shares no gene with any other.
    """
    aliases = () if wanted.gene_map is None else read_gene_map(wanted.gene_map)
    named = {source.path: _named_genes(source.path) for source in sources}
    union = unite([named[source.path] for source in sources], aliases, ignore_case=wanted.ignore_case)
    kinds = all(set(KIND) <= set(columns_of(source.path)) for source in sources)
    return Pool(
        tuple(sources),
        tuple(tuple(named[source.path].names) for source in sources),
        union,
        Vocabulary(union.names, union.symbols, tuple(aliases), wanted.ignore_case),
        ordered=all(names_regulators(source.facts) for source in sources),
        columns=(*READ, *KIND) if kinds else READ,
        ranked=wanted.rule == "mean-rank" or wanted.learn is not None,
    )


def _named_genes(path: Path) -> NamedGenes:
    names, symbols = read_genes_of(path), read_symbols(path)
    return NamedGenes(path, names, [symbols.get(name, "") for name in names] if symbols else None)
