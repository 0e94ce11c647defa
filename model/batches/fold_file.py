"""Folds from a user's file: of genes, of pairs, or of blocks of the list that the pairs come from. Pure.

A table with a header has a column named `fold` (or `split`, `set`, `partition`), and beside it

- a regulator (`TF`, `gene_a`, `source`, …): its pairs are in that fold; a `target` likewise;
- a `gene`: pairs of which both genes are in the fold, as under the split `both`;
- a column without a known name (DELAY's `splitLabels.csv`): a regulator where the store's pairs have direction, else a
  gene;
- `gene_a` and `gene_b`: that pair, and its mirror unless that is listed too.

A single column of numbers that rise from 0 is CNNC's division file: from each number to the next, the rows of the list
of pairs that the store was made from. Folds are numbers (each is the test once, the next one validation, all others
training) or words for the three.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pairscape.model.batches.folds import (
    TEST,
    TRAIN,
    UNUSED,
    VALIDATION,
    FoldArray,
    blocks,
    folds_by_gene,
    keep_mirrors_together,
    labelled_pairs,
    sides,
)
from pairscape.model.options import Splitting
from pairscape.pipeline.errors import InputError
from pairscape.pipeline.genes.lists import REGULATOR_NAMES, TARGET_NAMES, read_rows
from pairscape.pipeline.genes.pairs import Pairs, pair_keys
from pairscape.pipeline.genes.resolve import Vocabulary

FOLD_NAMES = ("fold", "split", "set", "partition")
EITHER_NAMES = ("gene", "genes", "symbol", "gene_symbol", "gene_id", "name")
WORDS = {
    **dict.fromkeys(("train", "training"), TRAIN),
    **dict.fromkeys(("validation", "valid", "val"), VALIDATION),
    **dict.fromkeys(("test", "testing"), TEST),
}
FEWEST = 3  # folds of numbers: one each for test and validation, and something to train on
EXAMPLES = 3


@dataclass(frozen=True, eq=False)
class FoldFile:
    """A file of folds, read.

    Attributes
    ----------
    folds, numbers
        Its folds, and whether they are numbers (ascending) or words of `WORDS`.
    group : (N,) int64
        Fold of each entry, index into `folds`.
    genes
        Names of each entry, in one column or two; none in a division of a list.
    side
        `regulator`, `target` or `both`: what an entry of one gene places. Empty: the file leaves it open.
    starts : (N + 1,) int64 or None
        Of a division: first row of each entry, and the rows of the list in all.
    """

    path: Path
    folds: tuple[str, ...]
    numbers: bool
    group: NDArray[np.int64]
    genes: tuple[list[str], ...] = ()
    side: str = ""
    starts: NDArray[np.int64] | None = None


@dataclass(frozen=True, eq=False)
class Placed:
    """Labelled pairs placed by a file.

    Attributes
    ----------
    folds : (P,) int8
        Fold of every pair.
    absent : (P,) bool
        Pairs that the file does not name.
    torn
        Rows left out because their mirror is nearer to the test.
    note
        In words, what of the file was found in the store.
    """

    folds: FoldArray
    absent: NDArray[np.bool_]
    torn: int
    note: str


def given_folds(
    pairs: Pairs, vocabulary: Vocabulary, splitting: Splitting, directed: bool, list_row: NDArray[np.int32] | None
) -> tuple[FoldArray, tuple[str, ...]]:
    """Fold of every pair as `splitting.fold_file` gives it, (P,) int8, and in words what was placed and left out.

    Parameters
    ----------
    vocabulary
        Genes of the store, and how names of the file find them; it refuses a file of which too few do.
    directed
        Whether gene_a regulates gene_b.
    list_row : (P,) int32 or None
        Row of the user's list that each pair comes from, for a division of that list.

    Raises
    ------
    InputError
        The file cannot be read; too few of its genes or pairs are in the store; it contradicts itself; it divides
        another list; its folds are not those asked for.
    """
    if splitting.fold_file is None:
        raise InputError("no file of folds is given, so nothing says what is tested; give --fold-file FILE.")
    file = read_fold_file(splitting.fold_file)
    roles = np.append(_roles(file, splitting), np.int8(UNUSED))  # at −1: in no fold
    labelled, own = labelled_pairs(pairs)
    if file.starts is not None:
        placed = _by_list_row(file, roles, own, len(vocabulary.genes), None if list_row is None else list_row[labelled])
    elif len(file.genes) == 2:
        placed = _by_pair(file, roles, own, vocabulary)
    else:
        placed = _by_gene(file, roles, own, vocabulary, directed)
    folds = np.full(len(pairs), UNUSED, np.int8)
    folds[labelled] = placed.folds
    return folds, _notes(file, placed, own, vocabulary)


def count_folds(path: Path) -> int | None:
    """Number of folds in a file of numbered folds; None where they are words, and so one split."""
    file = read_fold_file(path)
    return len(file.folds) if file.numbers else None


# ---------------------------------------------------------------- reading


def read_fold_file(path: Path) -> FoldFile:
    """Read a file of folds of any of the kinds above.

    Raises
    ------
    InputError
        No such file, not a table, no column of folds or of genes, a row without a gene, or a fold that is neither a
        number nor one of the words, or both kinds.
    """
    table = read_rows(path)
    if table.shape[1] == 1:
        return _division(table[0], path)
    table = table.iloc[1:].set_axis([name.lower() for name in table.iloc[0]], axis=1)
    header = list(table.columns)
    name = next((name for name in FOLD_NAMES if name in header), None)
    if name is None or header.count(name) > 1 or table.empty:
        raise InputError(
            f"{path} has columns {header} and {len(table)} rows below them: one column named fold and one row an entry "
            "are needed to tell what is tested."
        )
    genes, side = _gene_columns(table.drop(columns=name), path)
    folds, numbers, group = _folds(table[name], path)
    return FoldFile(path, folds, numbers, group, genes, side)


def _gene_columns(table: pd.DataFrame, path: Path) -> tuple[tuple[list[str], ...], str]:
    """Names of each entry in one column or two, and which gene of a pair a single one places."""
    header = list(table.columns)
    regulators, targets, either = (
        [i for i, name in enumerate(header) if name in names] for names in (REGULATOR_NAMES, TARGET_NAMES, EITHER_NAMES)
    )
    taken = [*regulators[:1], *targets[:1]] or either[:1] or ([0] if len(header) == 1 else [])
    if not taken or len(regulators) > 1 or len(targets) > 1:
        raise InputError(
            f"{path} has columns {header} beside the folds, and which hold the genes cannot be told; name them TF or "
            "gene, or gene_a and gene_b."
        )
    genes = tuple(list(table.iloc[:, i]) for i in taken)
    for row, names in enumerate(zip(*genes, strict=True), 1):
        if "" in names:
            raise InputError(f"{path}: row {row} names no gene, so its fold is of nothing; complete or drop that row.")
    if len(taken) == 2:
        return genes, ""
    return genes, "regulator" if regulators else "target" if targets else "both" if either else ""


def _folds(column: pd.Series, path: Path) -> tuple[tuple[str, ...], bool, NDArray[np.int64]]:
    """The folds, whether they are numbers, and which of them each entry has."""
    numbers = pd.to_numeric(column, errors="coerce").to_numpy(np.float64)
    whole = (numbers >= 0) & (numbers % 1 == 0)
    word = column.str.lower().isin(WORDS).to_numpy()
    good = whole if whole[0] else word
    if not good.all():
        row = int(np.argmin(good))
        raise InputError(
            f"{path}: fold {column.iloc[row]!r} in row {row + 1}, beside {column.iloc[0]!r}: folds are all whole "
            "numbers from 0 up, or all of the words train, validation, test; correct or drop that row."
        )
    if whole[0]:
        values, group = np.unique(numbers.astype(np.int64), return_inverse=True)
        return tuple(map(str, values)), True, group
    words, group = np.unique(column.str.lower().to_numpy(str), return_inverse=True)
    return tuple(map(str, words)), False, group


def _division(column: pd.Series, path: Path) -> FoldFile:
    numbers = pd.to_numeric(column, errors="coerce").to_numpy(np.float64)
    if len(numbers) < 2 or numbers[0] != 0 or not (np.diff(numbers) > 0).all() or (numbers % 1).any():
        raise InputError(
            f"{path} has one column, and it is no division of a list (whole numbers that rise from 0); give such, or a "
            "table with a header such as TF,fold or gene_a,gene_b,fold."
        )
    blocks = np.arange(len(numbers) - 1)
    return FoldFile(path, tuple(map(str, blocks)), True, blocks, starts=numbers.astype(np.int64))


def _roles(file: FoldFile, splitting: Splitting) -> FoldArray:
    """Role of each fold of the file, (folds,) int8; more folds than asked for are joined in their order."""
    if not file.numbers:
        if splitting.folds is not None or splitting.fold is not None:
            raise InputError(f"{file.path} names training, validation and test: one split; leave out --folds, --fold.")
        return np.array([WORDS[fold] for fold in file.folds], np.int8)
    n, fold = splitting.folds or len(file.folds), splitting.fold or 0
    if not FEWEST <= n <= len(file.folds) or fold >= n:
        raise InputError(
            f"{file.path} has {len(file.folds)} folds, and fold {fold} of {n} is asked for; test, validation and "
            f"training need {FEWEST} at least: give --folds {FEWEST} to {len(file.folds)} and a --fold below it, or "
            "another file."
        )
    parts = np.array_split(np.arange(len(file.folds)), n)
    joined = np.repeat(np.arange(n), [part.size for part in parts])
    return np.select([joined == fold, joined == (fold + 1) % n], [TEST, VALIDATION], TRAIN).astype(np.int8)


# ---------------------------------------------------------------- placing


def _by_gene(file: FoldFile, roles: FoldArray, pairs: Pairs, vocabulary: Vocabulary, directed: bool) -> Placed:
    side = file.side or ("regulator" if directed else "both")
    found = vocabulary.find(file.genes[0], "genes", file.path)
    known = found.index >= 0
    gene, group = found.index[known], file.group[known]
    _refuse_contradiction(file, gene, group, lambda entry: vocabulary.genes[gene[entry]])
    role, placed = np.full(len(vocabulary.genes), UNUSED, np.int8), np.zeros(len(vocabulary.genes), np.bool_)
    role[gene], placed[gene] = roles[group], True
    folds, torn = folds_by_gene(pairs, role, side)
    deciding = "both genes decide" if side == "both" else f"the {side} decides"
    note = f"{found.report('genes', 'store')}; {deciding} on a pair"
    return Placed(folds, _without(placed, pairs, side), torn, note)


def _without(placed: NDArray[np.bool_], pairs: Pairs, side: str) -> NDArray[np.bool_]:
    """Pairs that lack a placed gene where one decides, (P,) bool."""
    absent = np.empty(len(pairs), np.bool_)
    for rows in blocks(len(pairs)):
        regulator, target = (placed[end] for end in sides(pairs, rows))
        absent[rows] = ~{"regulator": regulator, "target": target, "both": regulator & target}[side]
    return absent


def _by_pair(file: FoldFile, roles: FoldArray, pairs: Pairs, vocabulary: Vocabulary) -> Placed:
    n = len(vocabulary.genes)
    resolution = vocabulary.find(file.genes[0] + file.genes[1], "genes", file.path)
    gene_a, gene_b = np.split(resolution.index, 2)
    known = (gene_a >= 0) & (gene_b >= 0)
    key, group = pair_keys(gene_a[known], gene_b[known], n), file.group[known]
    order = np.argsort(key, kind="stable")
    key, group = key[order], group[order]
    _refuse_contradiction(file, key, group, lambda entry: _pair_name(vocabulary, *divmod(int(key[entry]), n)))
    found = np.empty(len(pairs), np.int32)
    for rows in blocks(len(pairs)):
        forth, back = (
            _look_up(key, group, wanted)
            for wanted in (
                pair_keys(pairs.gene_a[rows], pairs.gene_b[rows], n),
                pair_keys(pairs.gene_b[rows], pairs.gene_a[rows], n),
            )
        )
        found[rows] = np.where(forth >= 0, forth, back)
    if (found < 0).all():
        raise InputError(
            f"{file.path}: none of its {known.size:,} pairs is in the store, so nothing could be tested; check that it "
            "belongs to this store."
        )
    note = f"{known.sum():,} of {known.size:,} pairs have both genes in the store"
    return _placed(roles, found, pairs, n, f"{note}; {resolution.report('genes', 'store')}")


def _by_list_row(
    file: FoldFile, roles: FoldArray, pairs: Pairs, n_genes: int, list_row: NDArray[np.int32] | None
) -> Placed:
    starts = file.starts
    if list_row is None or starts is None:
        raise InputError(
            f"{file.path} divides the rows of a list of pairs, and the pairs of this store come from none; make the "
            "store with --pairs LIST, or give a table of genes or pairs."
        )
    if list_row.max(initial=0) >= starts[-1]:
        raise InputError(
            f"{file.path} divides a list of {starts[-1]:,} rows, and the store's list has {list_row.max() + 1:,} or "
            "more; give the division of that list."
        )
    block = (np.searchsorted(starts, list_row, side="right") - 1).astype(np.int32)
    note = f"{np.unique(block).size:,} of {len(file.folds):,} blocks of the list are in the store"
    return _placed(roles, block, pairs, n_genes, note)


def _placed(roles: FoldArray, group: NDArray[np.int32], pairs: Pairs, n_genes: int, note: str) -> Placed:
    folds = roles[group]
    torn = keep_mirrors_together(folds, pairs, n_genes, np.flatnonzero(folds != UNUSED))
    return Placed(folds, group < 0, torn, note)


def _look_up(key: NDArray[np.int64], value: NDArray[np.int64], wanted: NDArray[np.int64]) -> NDArray[np.int64]:
    """Value of each wanted key among ascending keys, −1 where it is none of them."""
    if not key.size:
        return np.full(wanted.size, -1)
    place = np.minimum(np.searchsorted(key, wanted), key.size - 1)
    return np.where(key[place] == wanted, value[place], -1)


def _refuse_contradiction(
    file: FoldFile, key: NDArray[np.int64], group: NDArray[np.int64], name: Callable[[int], str]
) -> None:
    """Refuse a gene or pair that is in two folds."""
    order = np.argsort(key, kind="stable")
    twice = np.flatnonzero((np.diff(key[order]) == 0) & (np.diff(group[order]) != 0))
    if twice.size:
        first, second = (int(order[twice[0] + i]) for i in (0, 1))
        raise InputError(
            f"{file.path} puts {name(first)} into fold {file.folds[group[first]]} and into "
            f"{file.folds[group[second]]}, and which is meant cannot be told; drop one."
        )


def _pair_name(vocabulary: Vocabulary, gene_a: int, gene_b: int) -> str:
    return f"{vocabulary.genes[gene_a]}–{vocabulary.genes[gene_b]}"


def _notes(file: FoldFile, placed: Placed, pairs: Pairs, vocabulary: Vocabulary) -> tuple[str, ...]:
    absent = np.flatnonzero(placed.absent)
    notes = [f"{file.path.name}: {placed.note}"]
    if absent.size:
        named = (_pair_name(vocabulary, pairs.gene_a[row], pairs.gene_b[row]) for row in absent[:EXAMPLES])
        notes.append(
            f"{file.path.name}: {absent.size:,} of {len(pairs):,} labelled pairs are in no fold of the "
            f"file and stay unused ({', '.join(named)}{', …' if absent.size > EXAMPLES else ''})"
        )
    if placed.torn:
        notes.append(
            f"{file.path.name}: {placed.torn:,} pairs are left out, as the file puts their mirror nearer to the test"
        )
    return tuple(notes)
