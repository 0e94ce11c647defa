"""Genes of several matrices or score files as one list of genes; names are matched as in `resolve`. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pairscape.pipeline.errors import InputError
from pairscape.pipeline.genes.resolve import Resolution, Vocabulary, examples, likeliest_cause


class NamedGenes(NamedTuple):
    """Genes of one file: their names, and symbols ("" for a gene without one), None where it has none."""

    path: Path
    names: Sequence[str]
    symbols: Sequence[str] | None = None


@dataclass(frozen=True, eq=False)
class Union:
    """The genes of several files, each once.

    Attributes
    ----------
    names
        As the first file that has the gene names it.
    symbols
        "" for a gene without one; None where no file has any.
    index : (file,) of (gene,) int64
        Position of each file's genes, −1 for a gene that is left out.
    notes
        What was left out, in words.
    """

    names: tuple[str, ...]
    symbols: tuple[str, ...] | None
    index: tuple[NDArray[np.int64], ...]
    notes: tuple[str, ...] = ()


def unite(files: Sequence[NamedGenes], aliases: Sequence[tuple[str, str]] = (), *, ignore_case: bool = False) -> Union:
    """The genes of some files as one list.

    A gene is the same in two files by its id or its symbol, as lists and matrices are matched (`Vocabulary`). A file
    most of whose genes match the first one through `aliases` is of another vocabulary, or species: of it only genes
    with a partner are taken. Two genes of a file with the same partner, and a gene with several, are left out.

    Parameters
    ----------
    aliases
        Names of the same gene in two vocabularies, such as orthologues, in either order.

    Raises
    ------
    InputError
        A file shares no gene with any other; aliases through which nothing is matched.
    """
    names, symbols = list(files[0].names), list(files[0].symbols or [""] * len(files[0].names))
    known = Vocabulary(names, symbols, tuple(aliases), ignore_case)
    foreign = [_is_foreign(known.resolve(file.names)) for file in files]
    index: list[NDArray[np.int64]] = [np.zeros(0, np.int64)] * len(files)
    notes, translated = list[str](), 0
    for number in sorted(range(len(files)), key=lambda number: foreign[number]):  # partners have to be there first
        file = files[number]
        at, how = _matched(Vocabulary(names, symbols, tuple(aliases), ignore_case), file)
        translated += how
        absent = np.flatnonzero(at == -1)
        notes += _left_out(file, at, absent if foreign[number] else absent[:0])
        if not foreign[number]:
            at[absent] = len(names) + np.arange(absent.size)
            names += [file.names[gene] for gene in absent.tolist()]
            symbols += [(file.symbols or ())[gene] if file.symbols else "" for gene in absent.tolist()]
        _fill_symbols(symbols, file, at)
        index[number] = np.maximum(at, -1)
    if aliases and not translated:
        raise InputError(
            "the gene map matches no gene of one file with a gene of another; check that its two columns are names as "
            f"the files have them ({examples(files[0].names)}; {examples(files[-1].names)}), or leave it out."
        )
    _require_shared(files, index, len(names))
    return Union(tuple(names), tuple(symbols) if any(symbols) else None, tuple(index), tuple(notes))


def _is_foreign(found: Resolution) -> bool:
    """Whether most of the genes that match do so through the map."""
    return 2 * found.found_by.get("map", 0) > found.matched


def _matched(known: Vocabulary, file: NamedGenes) -> tuple[NDArray[np.int64], int]:
    """(gene,) place of each gene, −1 where it is new, −2 where it cannot be told; how many the map found."""
    found = known.resolve(file.names)
    at, several = found.index.copy(), set(found.ambiguous)
    if file.symbols is not None:
        missing = np.flatnonzero(at < 0)
        at[missing] = known.resolve([file.symbols[gene] for gene in missing.tolist()]).index
    unclear = [gene for gene in np.flatnonzero(at < 0).tolist() if file.names[gene] in several]
    at[unclear] = -2
    place, times = np.unique(at[at >= 0], return_counts=True)
    at[np.isin(at, place[times > 1])] = -2
    return at, found.found_by.get("map", 0)


def _left_out(file: NamedGenes, at: NDArray[np.int64], alone: NDArray[np.int64]) -> list[str]:
    said = []
    if alone.size:
        named = examples(file.names[gene] for gene in alone.tolist())
        said.append(f"{file.path.name}: {alone.size:,} genes have no partner in the other files: left out ({named})")
    if (several := np.flatnonzero(at == -2)).size:
        named = examples(file.names[gene] for gene in several.tolist())
        said.append(f"{file.path.name}: {several.size:,} genes match several, or share their match with another gene: "
                    f"left out ({named})")  # fmt: skip
    return said


def _fill_symbols(symbols: list[str], file: NamedGenes, at: NDArray[np.int64]) -> None:
    """Symbols that an earlier file lacked."""
    for gene, place in enumerate(at.tolist()):
        if place >= 0 and not symbols[place] and file.symbols is not None:
            symbols[place] = file.symbols[gene]


def _require_shared(files: Sequence[NamedGenes], index: Sequence[NDArray[np.int64]], n_genes: int) -> None:
    """Refuse a file that shares no gene with any other."""
    seen = np.zeros(n_genes, np.int64)
    for at in index:
        seen[at[at >= 0]] += 1
    for file, at in zip(files, index, strict=True):
        if len(files) > 1 and not (seen[at[at >= 0]] > 1).any():
            other = files[1] if file is files[0] else files[0]
            cause = likeliest_cause(file.names, other.names, other.symbols)
            raise InputError(
                f"{file.path} shares no gene with the other files ({examples(file.names)}; {other.path.name} has "
                f"{examples(other.names)}): {cause.words}{cause.advice}."
            )
