"""The pairs of a file of scores in memory, best first, so that any question about them is one pass over some columns.

A pair takes 22 bytes, or a few more. Rows are numbered by score, group by group; pairs of equal score stay in the order
of the file, those without a score come last.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pairscape.model.edges.edges import Edges, GeneCodes, columns_of, kind_numbers, symbols_of
from pairscape.model.edges.scores import COMBINED, GENES, ROWS_AT_ONCE, SYMBOLS, read_facts
from pairscape.pipeline.errors import InputError, JobError, first_line
from pairscape.pipeline.genes.kinds import KINDS
from pairscape.pipeline.storage.paths import fingerprint

HELD = (
    "forward",
    "kind",
    "correlation",
    "q_value",
    "label",
    "rank_stability",
)  # beside genes and score, where the file has them
SMALL = {"kind": np.int8, "label": np.int8}  # −1 where unknown
TRAVEL = ("correlation", "kind", "kind_probability", "q_value", "rank_stability")  # with an edge that is saved
MOST_SHORT = 2**16  # genes whose numbers have two bytes
MOST_ROWS = 100_000  # that one answer may have
Sort = Literal["score", "correlation", "q_value", "rank_stability"]
Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Wanted:
    """A question about the pairs; what is left out does not narrow it.

    Attributes
    ----------
    gene
        Number of a gene that is one of the two.
    group
        Of cells; "" where there are none.
    min_score, max_q
        Limits, which a pair may just reach.
    kinds, sign, known
        Kinds of dependence, sign of the correlation, and whether a pair is labelled an edge ("known") or not ("new").
    """

    gene: int | None = None
    group: str = ""
    min_score: float | None = None
    max_q: float | None = None
    kinds: tuple[str, ...] = ()
    sign: Literal["+", "-"] | None = None
    known: Literal["new", "known"] | None = None

    def words(self) -> str:
        """The question in words, for whoever opens a saved file later."""
        said = [f"group {self.group}"] if self.group else []
        said += [f"threshold {self.min_score:g}"] if self.min_score is not None else []
        said += [f"max q {self.max_q:g}"] if self.max_q is not None else []
        said += [f"kind {' or '.join(self.kinds)}"] if self.kinds else []
        return ", ".join([*said, *([f"sign {self.sign}"] if self.sign else []), *([self.known] if self.known else [])])


@dataclass(frozen=True, eq=False)
class ScoreTable:
    """Pairs of a file of scores, those of each group best first.

    Attributes
    ----------
    path, facts, stamp
        The file, what made it, and its fingerprint when it was read.
    genes, symbols
        Names, and symbols if there are any, "" where a gene has none.
    a, b : (P,) unsigned
        Genes of the pairs.
    score : (P,) float32
        NaN where a pair was screened out.
    columns
        Other values (P,) by name: float32, or int8 of `label` and of `kind` (number in `KINDS`, −1 unknown).
    row : (P,) int32
        Where each pair stands in the file.
    groups
        Pairs of each group; "" alone where there are no groups.
    """

    path: Path
    facts: dict[str, Any]
    stamp: str
    genes: tuple[str, ...]
    symbols: tuple[str, ...] | None
    a: NDArray[Any]
    b: NDArray[Any]
    score: NDArray[np.float32]
    columns: dict[str, NDArray[Any]]
    row: NDArray[np.int32]
    groups: dict[str, slice]
    _numbers: dict[str, int] = field(default_factory=dict)

    @property
    def default_group(self) -> str:
        """All cells, where there are groups."""
        return COMBINED if COMBINED in self.groups else next(iter(self.groups))

    @property
    def n_pairs(self) -> int:
        """Pairs of the default group."""
        held = self.groups[self.default_group]
        return int(held.stop - held.start)

    @cached_property
    def varied(self) -> tuple[str, ...]:
        """Columns that do not say the same of every pair."""
        return tuple(name for name, values in self.columns.items() if _varies(values))

    def find(
        self, wanted: Wanted, first: int, count: int, sort: Sort = "score", *, rising: bool = False
    ) -> tuple[int, Rows]:
        """How many pairs are wanted, and the rows of some, in order; rising: the smallest values first."""
        total, held, need = 0, np.empty(0, np.int64), min(first + count, MOST_ROWS)
        by_rank = sort == "score" and not rising
        for some in self._chunks(wanted.group):
            rows, met = self._passing(some, wanted)
            total += int(np.count_nonzero(met))
            if by_rank and held.size >= need:
                continue
            rows = np.flatnonzero(met) + some.start if rows is None else rows[met]
            if by_rank:
                held = np.concatenate([held, rows[: need - held.size]])
            else:
                held = self._first(np.concatenate([held, rows]), sort, need, rising=rising)
        return total, held[first:need]

    def neighbourhood(self, wanted: Wanted, partners: int, most: int) -> Rows:
        """Rows of the wanted pairs with a score between a gene and its best partners, then the best among these."""
        assert wanted.gene is not None
        _, own = self.find(wanted, 0, partners)
        own = own[~np.isnan(self.score[own])]
        inside = np.zeros(len(self.genes), bool)
        inside[self.a[own]] = inside[self.b[own]] = True
        inside[wanted.gene] = False
        among = replace(wanted, gene=None)
        held = np.empty(0, np.int64)
        for some in self._chunks(wanted.group):
            both = np.flatnonzero(inside[self.a[some]] & inside[self.b[some]]) + some.start
            both = both[~np.isnan(self.score[both]) & self._meeting(both, among)]
            held = np.concatenate([held, both[: most - held.size]])
            if held.size >= most:
                break
        return np.concatenate([own, held])

    def pair(self, a: int, b: int, group: str) -> int | None:
        """The row of a pair of genes in a group, in either order."""
        for some in self._chunks(group):
            here = ((self.a[some] == a) & (self.b[some] == b)) | ((self.a[some] == b) & (self.b[some] == a))
            if (found := np.flatnonzero(here)).size:
                return int(found[0]) + some.start
        return None

    def details(self, row: int) -> dict[str, Any]:
        """What the file says of a pair beside the values in memory, read from it now.

        Raises
        ------
        JobError
            The file is gone, or is another one by now.
        """
        try:
            if fingerprint(str(self.path)) != self.stamp:
                raise JobError(f"{self.path} has changed since this explorer was started; end it and start it again.")
            file, at, group = pq.ParquetFile(self.path), int(self.row[row]), 0
            while at >= (size := file.metadata.row_group(group).num_rows):
                at, group = at - size, group + 1
            told = {*self.columns, *GENES, *SYMBOLS, "score", "group"}
            columns = [name for name in file.schema_arrow.names if name not in told]
            return dict(file.read_row_group(group, columns=columns).slice(at, 1).to_pylist()[0]) if columns else {}
        except (OSError, InputError, pa.ArrowException) as error:
            raise JobError(f"{self.path} cannot be read any more ({first_line(error)}); is it still there?") from error

    def number_of(self, name: str) -> int | None:
        """Number of the gene of a name, an id before a symbol; None where none, or more than one, bears it."""
        if not self._numbers:
            for names in (self.symbols or (), self.genes):
                seen: dict[str, int] = {}
                for number, each in enumerate(names):
                    seen[each] = -1 if each in seen else number
                self._numbers.update(seen)
        found = self._numbers.get(name, -1) if name else -1
        return None if found < 0 else found

    def edges(self, rows: Rows) -> Edges:
        """Some pairs as edges, for the writers of files; with the values that are in memory."""
        columns = {n: v[rows].astype(np.float32) for n, v in self.columns.items() if n in TRAVEL}
        if "kind" in columns:
            columns["kind"][columns["kind"] < 0] = np.nan
        used, place = np.unique(np.concatenate([self.a[rows], self.b[rows]]), return_inverse=True)
        source, target = place.astype(np.int32).reshape(2, -1)
        if directed := "forward" in self.columns:
            back = self.columns["forward"][rows] < 0.5
            source, target = np.where(back, target, source), np.where(back, source, target)
        genes = tuple(self.genes[gene] for gene in used.tolist())
        symbols = None if self.symbols is None else tuple(self.symbols[gene] for gene in used.tolist())
        return Edges(genes, source, target, self.score[rows], columns, directed, symbols)

    def _chunks(self, group: str) -> Iterator[slice]:
        held = self.groups[group]
        for start in range(held.start, held.stop, ROWS_AT_ONCE):
            yield slice(start, min(start + ROWS_AT_ONCE, held.stop))

    def _passing(self, some: slice, wanted: Wanted) -> tuple[Rows | None, NDArray[np.bool_]]:
        """Rows of a run of the table that have the gene, None: all, and which of these meet the conditions."""
        if wanted.gene is None:
            return None, self._meeting(some, wanted)
        rows = np.flatnonzero((self.a[some] == wanted.gene) | (self.b[some] == wanted.gene)) + some.start
        return rows, self._meeting(rows, wanted)

    def _meeting(self, rows: slice | Rows, wanted: Wanted) -> NDArray[np.bool_]:
        """Which of some rows meet every condition but that on the gene."""
        met = np.ones(self.score[rows].shape, bool)
        if wanted.min_score is not None:
            met &= self.score[rows] >= _least(wanted.min_score)
        if wanted.max_q is not None:
            met &= self.columns["q_value"][rows] <= -_least(-wanted.max_q)
        if wanted.kinds:
            is_wanted = np.array([name in wanted.kinds for name in (*KINDS, "")])  # −1, unknown, is the last
            met &= is_wanted[self.columns["kind"][rows]]
        if wanted.sign is not None:
            correlation = self.columns["correlation"][rows]
            met &= correlation > 0 if wanted.sign == "+" else correlation < 0
        if wanted.known is not None:
            met &= (self.columns["label"][rows] > 0) == (wanted.known == "known")
        return met

    def _first(self, rows: Rows, sort: Sort, need: int, *, rising: bool) -> Rows:
        """The first of some rows by a column, unknown values last, equal ones by score."""
        value = self.score if sort == "score" else self.columns[sort]
        key = value[rows] if rising else -value[rows]
        if rows.size > need:
            key[np.isnan(key)] = np.inf
            limit = np.partition(key, need - 1)[need - 1]
            rows, key = rows[key <= limit], key[key <= limit]
        return rows[np.argsort(key, kind="stable")][:need]


def _least(limit: float) -> np.float32:
    """The smallest float32 that is not below a limit: compared in float32, nothing is converted, and no digit lost."""
    near = np.float32(limit)
    return near if float(near) >= limit else np.nextafter(near, np.float32(np.inf))


def _varies(values: NDArray[Any]) -> bool:
    known = values[~np.isnan(values)] if values.dtype.kind == "f" else values
    return bool(known.size and known.min() < known.max()) or bool(0 < known.size < values.size)


# ---------------------------------------------------------------- reading


def read_table(path: Path) -> ScoreTable:
    """Read a file of scores, a block of rows at a time.

    Raises
    ------
    InputError
        As `read_facts`; or the file has no pair.
    """
    facts, stamp, there = read_facts(path), fingerprint(str(path)), columns_of(path)
    n_pairs = pq.read_metadata(path).num_rows
    if not n_pairs:
        raise InputError(f"{path} holds no pair, so there is nothing to look at; predict with other candidates.")
    groups = _groups(path, n_pairs) if "group" in there else {"": slice(0, n_pairs)}
    genes, place = GeneCodes(), np.arange(n_pairs, dtype=np.int32)
    row = _ranked(_column(path, "score", place, genes), groups)
    place[row] = np.arange(n_pairs, dtype=np.int32)
    held = {name: _column(path, name, place, genes) for name in (*GENES, "score", *HELD) if name in there}
    del place
    names = _renumbered(list(genes.index), held)
    a, b, score = (held.pop(name) for name in (*GENES, "score"))
    return ScoreTable(path, facts, stamp, names, symbols_of(path, names), a, b, score, held, row, groups)


def _column(path: Path, name: str, place: NDArray[np.int32], genes: GeneCodes) -> NDArray[Any]:
    """One column of a file, of every group, in the order of the table; columns one by one need the least memory."""
    values, start = np.empty(place.size, np.uint16 if name in GENES else SMALL.get(name, np.float32)), 0
    for batch in pq.ParquetFile(path, read_dictionary=[*GENES]).iter_batches(ROWS_AT_ONCE, columns=[name]):
        numbers, stop = _as_numbers(name, batch.column(0), genes), start + len(batch)
        if name in GENES and len(genes.index) > MOST_SHORT:
            values = values.astype(np.int32, copy=False)
        values[place[start:stop]] = numbers
        start = stop
        pa.default_memory_pool().release_unused()  # it keeps hundreds of megabytes otherwise
    return values


def _as_numbers(name: str, values: pa.Array, genes: GeneCodes) -> NDArray[Any]:
    """Genes by their number, small whole numbers, null as −1, or floats, null as NaN."""
    if name in GENES:
        return genes(values)
    numbers = kind_numbers(values) if name == "kind" else values.to_numpy(zero_copy_only=False)
    return np.nan_to_num(numbers, nan=-1).astype(SMALL[name]) if name in SMALL else numbers


def _renumbered(names: list[str], held: dict[str, NDArray[Any]]) -> tuple[str, ...]:
    """Genes that have a pair, by whose numbers the pairs name them from now on."""
    there = np.zeros(len(names), bool)
    for name in GENES:
        there[held[name]] = True
    if not there.all():
        number = (np.cumsum(there) - 1).astype(held["gene_b"].dtype)
        for name in GENES:
            held[name] = number[held[name]]
    return tuple(name for name, used in zip(names, there, strict=True) if used)


def _ranked(score: NDArray[np.float32], groups: dict[str, slice]) -> NDArray[np.int32]:
    """Rows of the file in the order of the table, (P,)."""
    row = np.empty(score.size, np.int32)
    for held in groups.values():
        row[held] = np.argsort(-score[held], kind="stable") + held.start
    return row


def _groups(path: Path, n_pairs: int) -> dict[str, slice]:
    """The rows of each group, which stand together.

    Raises
    ------
    InputError
        They do not.
    """
    names: list[str] = []
    starts: list[int] = []
    start = 0
    for batch in pq.ParquetFile(path, read_dictionary=["group"]).iter_batches(ROWS_AT_ONCE, columns=["group"]):
        index = batch.column(0).indices.to_numpy(zero_copy_only=False)
        known = batch.column(0).dictionary.to_pylist()
        for at in (0, *(np.flatnonzero(np.diff(index)) + 1).tolist()):
            if not names or known[index[at]] != names[-1]:
                names.append(known[index[at]])
                starts.append(start + at)
        start += len(index)
    if len(set(names)) < len(names):
        raise InputError(f"{path}: the pairs of a group do not stand together, so it was changed; predict again.")
    return {name: slice(*ends) for name, *ends in zip(names, starts, [*starts[1:], n_pairs], strict=True)}
