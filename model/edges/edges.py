"""The edges of a network from a file of scores: chosen, pointed, best first.

The file is read a block of rows at a time and only what passes is kept, so memory follows the edges that are wanted and
not the pairs that were scored. Edges of equal weight stay in the order of the file.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pairscape.model.edges.calls import called_choice
from pairscape.model.edges.scores import (
    GENES,
    ROWS_AT_ONCE,
    facts_of_group,
    no_probability,
    read_genes_of,
    read_symbols,
    row_groups_of,
)
from pairscape.model.options import EdgeChoice
from pairscape.pipeline.errors import InputError
from pairscape.pipeline.genes.kinds import KINDS
from pairscape.pipeline.genes.resolve import Vocabulary

HALF = np.float64(0.5)  # from here on a pair is more likely an edge than not
LISTED = ("regulators", "network")  # options of the pairs under which the first gene of a pair is a regulator

Columns = dict[str, NDArray[Any]]


@dataclass(frozen=True, eq=False)
class Edges:
    """Edges of a network, best first.

    Attributes
    ----------
    genes
        Names of every gene of the file of scores, in the order in which they occur there.
    source, target : (E,) int32
        Into `genes`.
    weight : (E,) float32
        Probability of an edge; with a sign after `signed`.
    columns
        Other values (E,) float32 by name, NaN where unknown; of `kind` the number in `KINDS`.
    directed
        Whether the network gives the direction of an edge. Otherwise the source is the first gene of the pair.
    symbols
        Of every gene, "" where it has none; None where the matrix had none.
    doubtful
        Pairs that the limit of the q-value would have kept, left out as their score is below one half.
    """

    genes: tuple[str, ...]
    source: NDArray[np.int32]
    target: NDArray[np.int32]
    weight: NDArray[np.float32]
    columns: Columns
    directed: bool
    symbols: tuple[str, ...] | None = None
    doubtful: int = 0

    def __len__(self) -> int:
        return self.weight.size

    def names(self, codes: NDArray[np.int32]) -> list[str]:
        """Names of some genes, as the matrix has them."""
        return [self.genes[code] for code in codes.tolist()]

    def labels(self, codes: NDArray[np.int32]) -> list[str]:
        """Symbols of some genes, their names where they have none: what is shown to people."""
        if self.symbols is None:
            return self.names(codes)
        return [self.symbols[code] or self.genes[code] for code in codes.tolist()]

    @property
    def signs(self) -> list[str | None]:
        """Sign of each edge's correlation, "+" or "-", None where it has none; empty without correlations."""
        known = self.columns.get("correlation", np.empty(0))
        return [{1.0: "+", -1.0: "-"}.get(sign) for sign in np.sign(known).tolist()]

    @property
    def kinds(self) -> list[str | None]:
        """Name of each edge's kind, None where it is unknown; empty without kinds."""
        return [None if np.isnan(kind) else KINDS[int(kind)] for kind in self.columns.get("kind", np.empty(0))]

    def some(self, rows: slice) -> "Edges":
        """A run of them."""
        return self.take(np.arange(len(self))[rows])

    def take(self, rows: NDArray[np.integer]) -> "Edges":
        """These of them, in this order."""
        columns = {name: values[rows] for name, values in self.columns.items()}
        return replace(
            self, source=self.source[rows], target=self.target[rows], weight=self.weight[rows], columns=columns
        )

    def signed(self) -> "Edges":
        """The same with the sign of the pair's correlation on the weight; without one it stays positive."""
        return replace(self, weight=np.where(self.columns["correlation"] < 0, -self.weight, self.weight))


@dataclass
class GeneCodes:
    """Numbers for the names of genes, given as they come up in a file."""

    index: dict[str, int] = field(default_factory=dict)

    def __call__(self, names: pa.DictionaryArray) -> NDArray[np.int32]:
        """(P,) the number of each name."""
        at = np.from_dlpack(names.indices)  # to_numpy loads pandas
        known, code = names.dictionary.to_pylist(), np.zeros(len(names.dictionary), np.int32)
        for used in np.flatnonzero(np.bincount(at, minlength=code.size)).tolist():  # a dictionary may name others too
            code[used] = self.index.setdefault(known[used], len(self.index))
        return code[at]


def blocks(path: Path, columns: Sequence[str], genes: GeneCodes, group: str | None = None) -> Iterator[Columns]:
    """Columns of a file of scores some rows at a time, in order: genes and kinds as numbers, null as NaN.

    `group`: of cells, whose rows are read; absent: all groups combined.
    """
    file = pq.ParquetFile(path, read_dictionary=["gene_a", "gene_b"])
    for batch in file.iter_batches(ROWS_AT_ONCE, row_groups_of(path, group), columns=list(columns)):
        yield {
            name: _as_numbers(name, values, genes)
            for name, values in zip(batch.schema.names, batch.columns, strict=True)
        }


def _as_numbers(name: str, values: pa.Array, genes: GeneCodes) -> NDArray[Any]:
    if name in GENES:
        return genes(values)
    return kind_numbers(values) if name == "kind" else values.to_numpy(zero_copy_only=False)


def kind_numbers(names: pa.Array) -> NDArray[np.float32]:
    """Numbers in `KINDS` of names of kinds, (P,); NaN for null and for what is none."""
    names = names if isinstance(names, pa.DictionaryArray) else names.dictionary_encode()
    known = [KINDS.index(name) if name in KINDS else np.nan for name in names.dictionary.to_pylist()]
    index = names.indices.fill_null(len(known)).to_numpy(zero_copy_only=False)
    return np.array([*known, np.nan], np.float32)[index]


def columns_of(path: Path) -> tuple[str, ...]:
    """Names of the columns of a file of scores."""
    return tuple(pq.read_schema(path).names)


def names_regulators(facts: dict[str, Any]) -> bool:
    """Whether the first gene of a scored pair is a regulator, by how the pairs were asked for."""
    return any(_mentions(facts.get("pairs"), option) for option in LISTED)


def _mentions(facts: Any, key: str) -> bool:
    return isinstance(facts, dict) and (bool(facts.get(key)) or any(_mentions(part, key) for part in facts.values()))


def threshold_for(wanted: EdgeChoice, facts: dict[str, Any], path: Path) -> float:
    """Probability from which on a pair is wanted: one half where only a q-value is limited; 0 without a condition.

    Raises
    ------
    InputError
        The file has no threshold for the precision, or no score reached it.
    """
    if wanted.precision is None:
        return HALF if wanted.likelier_than_not else wanted.threshold or 0.0
    known, aim = facts.get("thresholds") or {}, f"precision {wanted.precision:g}"
    if aim not in known:
        there = ", ".join(name.removeprefix("precision ") for name in known if name.startswith("precision"))
        raise InputError(
            f"{path} has no threshold for a precision of {wanted.precision:g}: the training placed one for "
            f"{there or 'none'}; give one of these, or a probability (--threshold)."
        )
    if known[aim] is None:
        raise InputError(
            f"{path}: no score reached a precision of {wanted.precision:g} among the validation pairs of the training, "
            "so it names no edges; aim lower, or give a probability (--threshold)."
        )
    return float(known[aim])


def or_called(path: Path, wanted: EdgeChoice) -> EdgeChoice:
    """A choice with the cut-off of the report, where it names none of its own.

    Raises
    ------
    InputError
        The scores are no probabilities, so the report has no cut-off for them.
    """
    if wanted.has_cutoff:
        return wanted
    facts = facts_of_group(path, wanted.group)
    if rule := no_probability(facts):
        raise InputError(
            f"{path} is pooled by {rule}, so its scores are no probabilities by which edges could be called; say "
            "which pairs are edges: --top N, or --threshold (0 for every pair)."
        )
    called = called_choice(facts, columns_of(path))
    return replace(wanted, max_q=called.max_q, threshold=called.threshold)


def choose_edges(path: Path, wanted: EdgeChoice, also: Sequence[str] = ()) -> Edges:
    """The wanted edges of a file of scores, with those of the columns `also` that the file has.

    Raises
    ------
    InputError
        The file is no file of scores or lacks a threshold or column that is asked for; both directions of a network
        that gives the direction; no edge is left.
    """
    (found,) = choose_each(path, [wanted], also)
    if isinstance(found, InputError):
        raise found
    return found


def choose_each(path: Path, wanted: Sequence[EdgeChoice], also: Sequence[str] = ()) -> list[Edges | InputError]:
    """The edges of several choices within one group of cells, or why none is left; the file is read once for all.

    Raises like `choose_edges`, but for a choice of which no edge is left.
    """
    facts, there, genes = facts_of_group(path, wanted[0].group), columns_of(path), GeneCodes()
    taken = [name for name in also if name in there]
    choices = [_Choice.begun(path, one, facts, there, taken) for one in wanted]
    deciding = [name for one in wanted for name in _deciding(one, there)]
    for block in blocks(path, tuple(dict.fromkeys((*GENES, "score", *deciding, *taken))), genes, wanted[0].group):
        for choice in choices:
            choice.take(block, genes)
    symbols = symbols_of(path, tuple(genes.index))
    return [choice.edges(path, tuple(genes.index), symbols, facts.get("prior")) for choice in choices]


@dataclass(eq=False)
class _Choice:
    """One choice of edges while a file is read: what is wanted, and the rows that may be among them."""

    wanted: EdgeChoice
    threshold: float
    own: list[str] | None
    taken: list[str]
    directed: bool
    held: list[Columns] = field(default_factory=list)
    doubtful: int = 0

    @classmethod
    def begun(
        cls, path: Path, wanted: EdgeChoice, facts: dict[str, Any], there: tuple[str, ...], taken: list[str]
    ) -> "_Choice":
        """Before a row is read. Raises like `choose_edges`."""
        _check(path, wanted, there)
        own = genes_named(path, wanted.genes) if wanted.genes else None
        return cls(wanted, threshold_for(wanted, facts, path), own, taken, "forward" in there)

    def take(self, block: Columns, genes: GeneCodes) -> None:
        """Take some rows of the file in."""
        meant = _meant(block, self.wanted, _codes_of(self.own, genes))
        kept = meant["score"] >= np.float64(self.threshold)  # never NaN; in float64, where the threshold has its digits
        self.doubtful += int((meant["score"] < HALF).sum()) if self.wanted.likelier_than_not else 0
        self.held.append(_pointed({name: values[kept] for name, values in meant.items()}, self.taken))
        self.held = _trimmed(self.held, self.wanted)

    def edges(
        self, path: Path, genes: tuple[str, ...], symbols: tuple[str, ...] | None, prior: Any
    ) -> Edges | InputError:
        """Those of all rows that were taken in, or why none is left."""
        found = _best(_joined(self.held), None)
        if self.wanted.both_directions:
            found = _mirrored(found)
        if self.wanted.both_directions or self.directed:
            found = _once(found, len(genes))
        found = _cut(found, self.wanted)
        if not found["weight"].size:
            return InputError(_none_left(path, self.wanted, self.doubtful, prior))
        source, target, weight = (found.pop(name) for name in ("source", "target", "weight"))
        return Edges(genes, source, target, weight, found, self.directed, symbols, self.doubtful)


def _none_left(path: Path, wanted: EdgeChoice, doubtful: int, prior: Any) -> str:
    """Why no edge is left."""
    none = f"{path}: none of its pairs is left ({wanted.words()}), so there is nothing to write"
    if not doubtful:
        return f"{none}; ask for more (--max-q, --threshold), or for the best, whatever they are worth: --top N."
    return (
        f"{none}: {doubtful:,} pairs have that q-value, but all of them a score below one half, at the prior that was "
        f"stated ({prior}); predict with another --prior, or keep them all the same with --any-score."
    )


def symbols_of(path: Path, genes: Sequence[str]) -> tuple[str, ...] | None:
    """Symbols of some genes of a file of scores, "" where one has none; None where the file has no symbols."""
    known = read_symbols(path)
    return tuple(known.get(gene, "") for gene in genes) if any(known.values()) else None


def genes_named(path: Path, names: Sequence[str]) -> list[str]:
    """Genes of a file of scores by id or symbol, as the file has them.

    Raises
    ------
    InputError
        A name is no gene of the file, or the symbol of several.
    """
    genes = read_genes_of(path)
    symbols = symbols_of(path, genes)
    found = Vocabulary(genes, symbols).resolve(names)
    if found.ambiguous:
        several = [gene for gene, symbol in zip(genes, symbols or (), strict=False) if symbol == found.ambiguous[0]]
        raise InputError(
            f"{path}: {found.ambiguous[0]} is the symbol of several genes ({', '.join(several[:3])}); name one by id."
        )
    if found.unmatched:
        known = [name for name in (*(symbols or ()), *genes) if name]
        near = get_close_matches(found.unmatched[0], known, 3) or known[:3]
        raise InputError(
            f"{path} holds no pair of {found.unmatched[0]}: it has no gene of this name, but such as {', '.join(near)}."
        )
    return [genes[at] for at in found.index.tolist()]


def _check(path: Path, wanted: EdgeChoice, there: tuple[str, ...]) -> None:
    if wanted.max_q is not None and "q_value" not in there:
        raise InputError(f"{path} holds no q-values to limit; predict with --q-values, or leave --max-q out.")
    if wanted.kinds and "kind" not in there:
        raise InputError(
            f"{path} holds no kinds of dependence: its network does not tell them; predict with one that does, such as "
            "universal, or leave --kind out."
        )
    if wanted.sign and "correlation" not in there:
        raise InputError(f"{path} holds no correlations, so no sign is known; predict again, or leave --sign out.")
    if wanted.both_directions and "forward" in there:
        raise InputError(
            f"{path}: its network says which way an edge points, and the other way would be wrong; leave out "
            "--both-directions."
        )


def _deciding(wanted: EdgeChoice, there: tuple[str, ...]) -> list[str]:
    """Columns that choose or point edges."""
    asked = {
        "forward": True, "q_value": wanted.max_q is not None, "label": wanted.new, "kind": bool(wanted.kinds),
        "correlation": wanted.sign is not None,
    }  # fmt: skip
    return [name for name, needed in asked.items() if needed and name in there]


def _meant(block: Columns, wanted: EdgeChoice, own: list[int] | None) -> Columns:
    """Rows that meet the conditions on each pair alone, but for that on the score; `own` are the wanted genes."""
    kept = np.ones(block["score"].size, bool)
    if own is not None:
        kept &= np.isin(block["gene_a"], own) | np.isin(block["gene_b"], own)
    if wanted.max_q is not None:
        kept &= block["q_value"] <= np.float64(wanted.max_q)
    if wanted.new:
        kept &= block["label"] <= 0
    if wanted.kinds:
        kept &= np.isin(block["kind"], [KINDS.index(name) for name in wanted.kinds])
    if wanted.sign is not None:
        kept &= np.sign(block["correlation"]) == (1 if wanted.sign == "+" else -1)
    return {name: values[kept] for name, values in block.items()}


def _codes_of(wanted: Sequence[str] | None, genes: GeneCodes) -> list[int] | None:
    """Numbers of the wanted genes that came up so far; None where any gene is wanted."""
    return None if wanted is None else [genes.index[gene] for gene in wanted if gene in genes.index]


def _pointed(block: Columns, taken: list[str]) -> Columns:
    """Pairs as edges, backwards where the network says so."""
    source, target = ends_of(block)
    known = {name: block[name].astype(np.float32) for name in taken}
    return {"source": source, "target": target, "weight": block["score"], **known}


def ends_of(block: Columns) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Source and target of each pair: gene_a and gene_b, the other way round where the network says so."""
    a, b = block["gene_a"], block["gene_b"]
    if "forward" not in block:
        return a, b
    back = block["forward"] < 0.5
    return np.where(back, b, a), np.where(back, a, b)


def _trimmed(held: list[Columns], wanted: EdgeChoice) -> list[Columns]:
    """What can still be among the best: a pair occurs at most twice, as (a, b) and as (b, a)."""
    if wanted.top is None or wanted.per_regulator is not None:
        return held
    size = sum(part["weight"].size for part in held)
    return [_best(_joined(held), 2 * wanted.top)] if size > 4 * wanted.top else held


def _joined(held: list[Columns]) -> Columns:
    return {name: np.concatenate([part[name] for part in held]) for name in held[0]}


def _best(found: Columns, most: int | None) -> Columns:
    """Sorted by weight, equal ones as they came."""
    weight = found["weight"]
    rows = np.arange(weight.size)
    if most is not None and most < weight.size:  # to sort all of them takes several times as long
        rows = np.flatnonzero(weight >= np.partition(weight, -most)[-most])
    order = rows[np.argsort(-weight[rows], kind="stable")][:most]
    return {name: values[order] for name, values in found.items()}


def _mirrored(found: Columns) -> Columns:
    """Each edge followed by the same the other way round."""
    twice = {name: np.repeat(values, 2) for name, values in found.items()}
    twice["source"][1::2], twice["target"][1::2] = found["target"], found["source"]
    return twice


def _once(found: Columns, n_genes: int) -> Columns:
    """Of edges with the same source and target the first."""
    first = first_of_equals(found["source"], found["target"], n_genes)
    return {name: values[first] for name, values in found.items()}


def first_of_equals(source: NDArray[np.int32], target: NDArray[np.int32], n_genes: int) -> NDArray[np.int64]:
    """Rows of the edges of which none before has the same source and target, in order."""
    _, first = np.unique(source.astype(np.int64) * n_genes + target, return_index=True)
    return np.sort(first)


def _cut(found: Columns, wanted: EdgeChoice) -> Columns:
    """The best of each regulator, then the best of all."""
    if wanted.per_regulator is not None:
        kept = rank_within(found["source"]) < wanted.per_regulator
        found = {name: values[kept] for name, values in found.items()}
    most = None if wanted.top is None else wanted.top * (2 if wanted.both_directions else 1)
    return {name: values[:most] for name, values in found.items()}


def rank_within(group: NDArray[np.integer]) -> NDArray[np.int64]:
    """How many before it are of the same group, of each of (E,) sorted edges."""
    order = np.argsort(group, kind="stable")
    ordered = group[order]
    starts = np.searchsorted(ordered, ordered)
    rank = np.empty(group.size, np.int64)
    rank[order] = np.arange(group.size) - starts
    return rank
