"""Candidate pairs and their labels, as indices into the genes of a matrix. Pure."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pairscape.pipeline.errors import InputError
from pairscape.pipeline.genes import lists
from pairscape.pipeline.genes.kinds import KINDS
from pairscape.pipeline.genes.resolve import Resolution, Vocabulary
from pairscape.pipeline.options import PairSource

GeneIndex = NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class Pairs:
    """Candidate pairs.

    Attributes
    ----------
    gene_a, gene_b : (P,) int32
        Index into the genes of the matrix. In a directed pair gene_a is the regulator.
    label : (P,) int8
        −1 unlabelled, 0 none, 1 co-expressed or a→b, 2 b→a; or, with class names, a position in these.
    list_row : (P,) int32 or None
        Row of the user's list, from 0, that names the pair first; None where the pairs come from no list. So a division
        of the list's rows into folds, as CNNC has, outlives rows that were dropped and the order of the store.
    class_names
        What the labels 0, 1, … mean, where they are kinds of dependence; else ().
    """

    gene_a: GeneIndex
    gene_b: GeneIndex
    label: NDArray[np.int8]
    list_row: NDArray[np.int32] | None = None
    class_names: tuple[str, ...] = ()

    def __len__(self) -> int:
        return self.gene_a.size

    def take(self, rows: NDArray[np.integer]) -> "Pairs":
        """These pairs in this order."""
        list_row = None if self.list_row is None else self.list_row[rows]
        return Pairs(self.gene_a[rows], self.gene_b[rows], self.label[rows], list_row, self.class_names)

    def content_hash(self) -> str:
        """Hex sha256 of the ordered pairs, their labels, rows of the list and class names, the same everywhere."""
        total = hashlib.sha256()
        columns = ((self.gene_a, "<i4"), (self.gene_b, "<i4"), (self.label, "i1"), (self.list_row, "<i4"))
        for column, dtype in columns:
            if column is not None:
                total.update(np.ascontiguousarray(column, dtype).tobytes())
        total.update(",".join(self.class_names).encode())
        return total.hexdigest()


@dataclass(frozen=True, eq=False)
class Candidates:
    """Pairs, and what was understood of the user's files on the way: in words, and of each list's names as facts."""

    pairs: Pairs
    notes: tuple[str, ...] = ()
    lists: tuple[dict[str, Any], ...] = ()


def all_pairs(n_genes: int) -> Pairs:
    """Every unordered pair of genes once, gene_a < gene_b, unlabelled."""
    gene_a, gene_b = np.triu_indices(n_genes, k=1)
    return _unlabelled(gene_a, gene_b)


def all_pairs_of(genes: GeneIndex) -> Pairs:
    """Every unordered pair of some genes, ascending, once, gene_a < gene_b, unlabelled."""
    found = all_pairs(genes.size)
    return Pairs(genes[found.gene_a], genes[found.gene_b], found.label)


def cross_pairs(regulators: GeneIndex, targets: GeneIndex) -> Pairs:
    """Every regulator with every target, a gene with itself left out, unlabelled."""
    gene_a, gene_b = np.repeat(regulators, targets.size), np.tile(targets, regulators.size)
    different = gene_a != gene_b
    return _unlabelled(gene_a[different], gene_b[different])


def _unlabelled(gene_a: NDArray[np.integer], gene_b: NDArray[np.integer]) -> Pairs:
    return Pairs(gene_a.astype(np.int32), gene_b.astype(np.int32), np.full(gene_a.size, -1, np.int8))


def pair_keys(gene_a: NDArray[np.integer], gene_b: NDArray[np.integer], n_genes: int) -> NDArray[np.int64]:
    """One number for each ordered pair, (P,)."""
    return gene_a.astype(np.int64) * n_genes + gene_b


def label_edges(pairs: Pairs, source: GeneIndex, target: GeneIndex, n_genes: int) -> Pairs:
    """Label 1 where (gene_a, gene_b) is an edge of the network, 0 elsewhere."""
    edges = np.unique(pair_keys(source, target, n_genes))
    return replace(pairs, label=np.isin(pair_keys(pairs.gene_a, pairs.gene_b, n_genes), edges).astype(np.int8))


def candidates(
    source: PairSource,
    genes: Sequence[str],
    symbols: Sequence[str] | None = None,
    others: Sequence[str] | None = None,
    frequent: GeneIndex | None = None,
) -> Candidates:
    """The candidate pairs that a user asked for, in terms of a matrix.

    Parameters
    ----------
    genes, symbols, others
        Ids and, if known, symbols and further ids of the matrix's genes.
    frequent
        Genes that enough cells express, ascending, of which alone pairs are made. Absent: of all.

    Raises
    ------
    InputError
        Unreadable file, a list of which no name, or less than `source.min_matched` of them, are genes of the matrix, a
        pair of two kinds, or no pair left.
    """
    aliases = () if source.gene_map is None else tuple(lists.read_gene_map(source.gene_map))
    vocabulary = Vocabulary(genes, symbols, aliases, source.ignore_case, source.min_matched, others=others)
    if source.pairs is not None:
        found = _listed(source.pairs, vocabulary, kinds=source.classes == "kinds")
    elif source.regulators is not None:
        found = _regulated(source, source.regulators, vocabulary)
    else:
        found = Candidates(all_pairs(len(genes)) if frequent is None else all_pairs_of(frequent))
    if frequent is not None and not source.all_pairs:
        found = _of_frequent(found, frequent)
    if not len(found.pairs) and frequent is not None:
        raise InputError(
            f"no candidate pair is left: of none do {100 * (source.min_share or 0):g} % of the cells express both "
            "genes; give a smaller --min-share."
        )
    if not len(found.pairs):
        raise InputError("no candidate pair is left: the lists name only pairs of a gene with itself; give more genes.")
    return found


def _of_frequent(found: Candidates, genes: GeneIndex) -> Candidates:
    """The pairs whose genes are both among these; how many is noted."""
    kept = np.flatnonzero(np.isin(found.pairs.gene_a, genes) & np.isin(found.pairs.gene_b, genes))
    note = f"{kept.size:,} of {len(found.pairs):,} candidate pairs have two such genes"
    return replace(found, pairs=found.pairs.take(kept), notes=(*found.notes, note))


@dataclass(frozen=True, eq=False)
class _Found:
    """A list in terms of the matrix: what was understood of its names, in words and as facts."""

    file: Path
    what: str
    resolution: Resolution

    def note(self) -> str:
        return f"{self.file.name}: {self.resolution.report(self.what)}"

    def facts(self) -> dict[str, Any]:
        return self.resolution.facts(self.what, self.file)


def _find(names: list[str], what: str, file: Path, vocabulary: Vocabulary) -> _Found:
    return _Found(file, what, vocabulary.find(names, what, file))


def _ends(named: lists.NamedPairs, found: _Found, what: str) -> tuple[GeneIndex, GeneIndex, str]:
    """Both ends of named pairs in terms of the matrix, -1 where a name is unknown, and what was understood."""
    gene_a, gene_b = np.split(found.resolution.index.astype(np.int32), 2)
    known = (gene_a >= 0) & (gene_b >= 0)
    note = f"{found.file.name}: {named.columns}; {known.sum():,} of {known.size:,} {what} have both genes in the matrix"
    return gene_a, gene_b, f"{note}; {found.resolution.report(found.what)}"


def _listed(file: Path, vocabulary: Vocabulary, kinds: bool) -> Candidates:
    named = lists.read_pairs(file, kinds)
    found = _find(named.gene_a + named.gene_b, "genes", file, vocabulary)
    gene_a, gene_b, note = _ends(named, found, "pairs")
    known, itself = (gene_a >= 0) & (gene_b >= 0), gene_a == gene_b
    if not known.any():
        raise InputError(
            f"{file}: no pair has both genes in the matrix, as {named.gene_a[0]} and {named.gene_b[0]} have not; "
            "check that list and matrix name genes in the same way."
        )
    label = np.full(known.size, -1, np.int8) if named.label is None else named.label
    rows = np.flatnonzero(known & ~itself)
    pairs = Pairs(gene_a, gene_b, label, np.arange(known.size, dtype=np.int32), KINDS if kinds else ()).take(rows)
    if kinds:
        _refuse_two_kinds(pairs, named, len(vocabulary.genes), file)
    notes = [note]
    if alone := int((known & itself).sum()):
        notes.append(f"{file.name}: {alone:,} pairs of a gene with itself dropped")
    pairs, more = _first_mentions(pairs, len(vocabulary.genes), file)
    return Candidates(pairs, (*notes, *more), (found.facts(),))


def _refuse_two_kinds(pairs: Pairs, named: lists.NamedPairs, n_genes: int, file: Path) -> None:
    """A labelled pair is of one kind, however often and either way round it is listed."""
    pairs = pairs.take(np.flatnonzero(pairs.label >= 0))
    key = pair_keys(np.minimum(pairs.gene_a, pairs.gene_b), np.maximum(pairs.gene_a, pairs.gene_b), n_genes)
    _, first, inverse = np.unique(key, return_index=True, return_inverse=True)
    differs = pairs.label != pairs.label[first][inverse]
    if differs.any():
        one, other = first[inverse][differs][0], np.argmax(differs)
        assert pairs.list_row is not None
        row, kinds = pairs.list_row[other], pairs.class_names
        raise InputError(
            f"{file}: {named.gene_a[row]} and {named.gene_b[row]} are listed as {kinds[pairs.label[one]]} and as "
            f"{kinds[pairs.label[other]]}, and a pair is of one kind; drop one of the rows."
        )


def _first_mentions(pairs: Pairs, n_genes: int, file: Path) -> tuple[Pairs, list[str]]:
    """Each ordered pair once; CNNC's own lists repeat some, a few of them with another label."""
    notes = []
    key = pair_keys(pairs.gene_a, pairs.gene_b, n_genes)
    _, first, inverse = np.unique(key, return_index=True, return_inverse=True)
    if repeated := len(pairs) - first.size:
        conflicts = int((pairs.label != pairs.label[first][inverse]).sum())
        notes.append(f"{file.name}: {repeated:,} repeated pairs dropped, {conflicts:,} of them with another label "
                     "than the first mention, which counts")  # fmt: skip
    pairs = pairs.take(np.sort(first))
    if both := _mirrored(pairs.gene_a, pairs.gene_b, n_genes):
        notes.append(f"{file.name}: {both:,} pairs are listed in both directions")
    return pairs, notes


def _mirrored(gene_a: GeneIndex, gene_b: GeneIndex, n_genes: int) -> int:
    """Unordered pairs that are there both ways, of pairs without repeats."""
    return int(np.isin(pair_keys(gene_a, gene_b, n_genes), pair_keys(gene_b, gene_a, n_genes)).sum()) // 2


def _regulated(source: PairSource, regulators: Path, vocabulary: Vocabulary) -> Candidates:
    found = [_find(lists.read_genes(regulators), "regulators", regulators, vocabulary)]
    targets = np.arange(len(vocabulary.genes), dtype=np.int32)
    if source.targets is not None:
        found.append(_find(lists.read_genes(source.targets), "targets", source.targets, vocabulary))
        targets = _genes(found[-1])
    pairs, notes = cross_pairs(_genes(found[0]), targets), [one.note() for one in found]
    if source.network is not None:
        named = _chosen_edges(lists.read_network(source.network), source, source.network, pairs, vocabulary)
        found.append(_find(named.gene_a + named.gene_b, "genes", source.network, vocabulary))
        pairs, more = _edges(pairs, named, found[-1], len(vocabulary.genes))
        notes += more
    return Candidates(pairs, tuple(notes), tuple(one.facts() for one in found))


MOST_EDGES = 0.5  # share of the candidates that are edges from which on a network with a rank is a list of all pairs


def _chosen_edges(
    named: lists.NamedPairs, source: PairSource, network: Path, pairs: Pairs, vocabulary: Vocabulary
) -> lists.NamedPairs:
    """The edges of a ranking that are asked for; of a plain network all."""
    if source.network_top is not None or source.network_threshold is not None:
        if named.importance is None:
            raise InputError(
                f"{network}: no column ranks its edges ({', '.join(lists.RANKING_NAMES)}), so that --network-top and "
                "--network-threshold choose nothing; leave them out"
            )
        chosen = named.best(source.network_top, source.network_threshold)
        if not chosen.gene_a:
            raise InputError(
                f"{network}: no edge reaches {source.network_threshold:g} by {named.ranked_by!r}, of which the highest "
                f"is {named.importance.max():g}; lower --network-threshold"
            )
        return chosen
    if named.importance is not None and _ranks_all(named, pairs, vocabulary):
        raise InputError(
            f"{network} ranks {len(named.gene_a):,} pairs by {named.ranked_by!r}, and each of them would count as an "
            "edge; say which are: --network-top N for the N best, or --network-threshold X for those from X on"
        )
    return named


def _ranks_all(named: lists.NamedPairs, pairs: Pairs, vocabulary: Vocabulary) -> bool:
    """Whether a network is a ranking of pairs: GRNBoost's, or any that has most candidates as edges."""
    if named.ranked_by == "importance":
        return len(named.gene_a) > 1
    index = vocabulary.resolve(named.gene_a + named.gene_b).index
    start, end = np.split(index.astype(np.int32), 2)
    known = (start >= 0) & (end >= 0)
    labelled = label_edges(pairs, start[known], end[known], len(vocabulary.genes))
    return bool((labelled.label == 1).mean() > MOST_EDGES)


def _genes(found: _Found) -> GeneIndex:
    """Genes of a list, each once."""
    index = found.resolution.index
    return np.unique(index[index >= 0]).astype(np.int32)


def _edges(pairs: Pairs, named: lists.NamedPairs, found: _Found, n_genes: int) -> tuple[Pairs, list[str]]:
    """The candidates labelled by a network, and what was understood of it."""
    start, end, note = _ends(named, found, "edges")
    known = (start >= 0) & (end >= 0)
    start, end = start[known], end[known]
    pairs = label_edges(pairs, start, end, n_genes)
    notes = [f"{note}; {int((pairs.label == 1).sum()):,} of {len(pairs):,} candidates are edges"]
    other = start != end
    key = np.unique(pair_keys(start[other], end[other], n_genes))
    both = _mirrored((key // n_genes).astype(np.int32), (key % n_genes).astype(np.int32), n_genes)
    itself, repeated = int((~other).sum()), int(other.sum()) - key.size
    return pairs, notes + _oddities(found.file, itself, repeated, both)


def _oddities(network: Path, itself: int, repeated: int, both: int) -> list[str]:
    """What else a network holds, in words; empty where it is plain."""
    said = [
        f"{number:,} {words}"
        for number, words in (
            (itself, "edges of a gene to itself, which no candidate is"),
            (repeated, "repeated edges, counted once"),
            (both, "pairs of genes with an edge both ways"),
        )
        if number
    ]
    return [f"{network.name}: {'; '.join(said)}"] if said else []
