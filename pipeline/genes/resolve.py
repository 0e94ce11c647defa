"""Names in a user's list → genes of a matrix, and a report of what was found: the one place that decides it. Pure.

| a name is looked for | as |
|---|---|
| first | an id of the matrix, then a symbol of it, letter by letter |
| then | an Ensembl id without the version after its dot, an Entrez id without `.0`, on both sides |
| if asked for | through a map of names, and in any case |

A name that the matrix has is never translated, and what fits two genes is none: it is reported as ambiguous, since the
choice is the user's.
"""

import difflib
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pairscape.pipeline.errors import InputError, printable
from pairscape.pipeline.genes.describe import describe_names
from pairscape.pipeline.genes.names import (
    ENSEMBL,
    ENTREZ,
    in_words,
    mangled,
    without_decimals,
    without_genome,
    without_version,
)

EXAMPLES = 3
How = Literal["id", "symbol", "version", "map", "case"]
ABSENT, SEVERAL = -1, -2


@dataclass(frozen=True, eq=False)
class Resolution:
    """Where each of a list of names lies among the genes of a matrix. Counts are of distinct names.

    Attributes
    ----------
    index : (name,) int64
        Position of the gene in the matrix, −1 where none or more than one gene matched.
    names
        Distinct names that were looked for.
    matched
        How many of them are a gene.
    unmatched, ambiguous
        Those that no gene bears, and those that more than one gene bears.
    found_by
        How the matched ones were found → how many.
    also_symbols
        Matched as the id of one gene while being the symbol of another.
    mangled
        Unmatched ones that a spreadsheet made into dates or numbers → what they may have been.
    """

    index: NDArray[np.int64]
    names: int
    matched: int
    unmatched: tuple[str, ...] = ()
    ambiguous: tuple[str, ...] = ()
    found_by: dict[How, int] = field(default_factory=dict)
    also_symbols: tuple[str, ...] = ()
    mangled: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def report(self, what: str, where: str = "matrix") -> str:
        """In words, what was found of these names: matched, unmatched, ambiguous, with examples."""
        said = [f"{self.matched:,} of {self.names:,} {what} are in the {where}", *self._exceptions()]
        ways: dict[How, str] = {
            "version": "without the version after the dot",
            "map": "through the gene map",
            "case": "in another case",
        }
        said += [f"matched {words}: {n:,}" for how, words in ways.items() if (n := self.found_by.get(how))]
        return "; ".join(said)

    def _exceptions(self) -> list[str]:
        said = []
        if self.unmatched:
            said.append(f"not in it: {examples(self.unmatched)}")
        if self.mangled:
            said.append(f"made into dates by a spreadsheet: {in_words(self.mangled, EXAMPLES)}")
        if self.ambiguous:
            said.append(f"borne by several genes, so left out: {examples(self.ambiguous)}")
        if self.also_symbols:
            said.append(f"ids that are also symbols of other genes, taken as ids: {examples(self.also_symbols)}")
        return said

    def facts(self, what: str, file: Path) -> dict[str, Any]:
        """The same for the attributes of a store."""
        return {
            "what": what,
            "file": str(file),
            "names": self.names,
            "matched": self.matched,
            "unmatched": len(self.unmatched),
            "ambiguous": len(self.ambiguous),
            "found_by": dict(self.found_by),
            "unmatched_examples": list(self.unmatched[:EXAMPLES]),
            "ambiguous_examples": list(self.ambiguous[:EXAMPLES]),
        }


@dataclass(frozen=True)
class Vocabulary:
    """The genes of a matrix, and the ways in which a list may name them.

    Attributes
    ----------
    genes, symbols
        Ids and, if known, symbols of the matrix's genes, "" where a gene has none.
    aliases
        Names of the same gene in two vocabularies, in either order.
    ignore_case
        Whether names match that differ only in case.
    min_matched
        Smallest share of a list's distinct names that must be genes of the matrix, in [0, 1].
    advise
        Whether the command that asks has --ignore-case and --gene-map, so that a refusal may advise them.
    others
        Further ids of the genes, such as Ensembl's beside symbols; None where there are none.
    """

    genes: Sequence[str]
    symbols: Sequence[str] | None = None
    aliases: tuple[tuple[str, str], ...] = ()
    ignore_case: bool = False
    min_matched: float = 0.0
    advise: bool = True
    others: Sequence[str] | None = None

    def find(self, names: Sequence[str], what: str = "genes", file: Path | None = None) -> Resolution:
        """Where each name lies in the matrix.

        Parameters
        ----------
        names
            A repeated name is found each time and counted once.
        what
            The names in the plural, for the message.
        file
            Where they come from. Absent: the message names no file.

        Raises
        ------
        InputError
            There is no name, none is a gene of the matrix, or less than `min_matched` of them are.
        """
        resolution = self.resolve(names)
        of = "" if file is None else f" of {file}"
        if not resolution.names:
            raise InputError(f"no {what}{of}: the list is empty; give one gene name per line")
        if not resolution.matched or resolution.matched < self.min_matched * resolution.names:
            raise InputError(self._refusal(resolution, f"{what}{of}", named=file is not None))
        return resolution

    def place(self, name: str, where: str) -> int:
        """Where one gene lies.

        Parameters
        ----------
        where
            What has the genes, for the message.

        Raises
        ------
        InputError
            No gene bears the name, or several do; those of like names are shown.
        """
        found = self.resolve([name])
        if found.ambiguous:
            several = [gene for gene, symbol in zip(self.genes, self.symbols or (), strict=False) if symbol == name]
            raise InputError(f"{where}: {name} is the name of several genes ({examples(several)}); give an id.")
        if not found.matched:
            near = self._near(str(name))
            hint = f"did you mean {' or '.join(near)}?" if near else f"it has {_own_names(self.genes, self.symbols)}."
            raise InputError(printable(f"{where} has no gene {name!r}: {hint}"))
        return int(found.index[0])

    def _near(self, name: str) -> list[str]:
        """Names that are spelled like this one."""
        known = {self._folded_name(own): own for own in (*self.genes, *(self.symbols or ())) if own}
        return [known[near] for near in difflib.get_close_matches(self._folded_name(name), known, EXAMPLES)]

    @staticmethod
    def _folded_name(name: str) -> str:
        return name.lower().replace("-", "").replace(".", "")

    def resolve(self, names: Sequence[str]) -> Resolution:
        """Where each name lies in the matrix, however few are found."""
        found = {name: self._look_up(name) for name in dict.fromkeys(names)}
        index = np.array([max(found[name][0], -1) for name in names], np.int64)
        ways: dict[How, int] = {}
        for place, how in found.values():
            if place >= 0:
                ways[how] = ways.get(how, 0) + 1
        return Resolution(
            index=index,
            names=len(found),
            matched=sum(place >= 0 for place, _ in found.values()),
            unmatched=tuple(name for name, (place, _) in found.items() if place == ABSENT),
            ambiguous=tuple(name for name, (place, _) in found.items() if place == SEVERAL),
            found_by=ways,
            also_symbols=tuple(name for name in found if self._is_id_and_symbol(name)),
            mangled={name: was for name, was in mangled(list(found)).items() if found[name][0] == ABSENT},
        )

    def _look_up(self, name: str) -> tuple[int, How]:
        """Place of one name, ABSENT or SEVERAL, and how it was found."""
        if (place := self._ids.get(name)) is not None:
            return place, "id"
        if (place := self._by_symbol.get(name)) is not None:
            return place, "symbol"
        if (place := self._by_other_id.get(name)) is not None:
            return place, "id"
        if (place := self._without_version.get(bare_id(name))) is not None:
            return place, "version"
        return self._translated(name) if self.aliases or self.ignore_case else (ABSENT, "id")

    def _translated(self, name: str) -> tuple[int, How]:
        own = self._folded.get(self._fold(name), set())
        partners = (self._folded.get(self._fold(other), set()) for other in self._partners.get(self._fold(name), ()))
        genes = own.union(*partners)
        place = ABSENT if not genes else SEVERAL if len(genes) > 1 else next(iter(genes))
        return place, "case" if own else "map"

    def _is_id_and_symbol(self, name: str) -> bool:
        """Of two different genes."""
        return name in self._ids and self._by_symbol.get(name, self._ids[name]) != self._ids[name]

    @cached_property
    def _ids(self) -> dict[str, int]:
        return _positions(self.genes)

    @cached_property
    def _by_symbol(self) -> dict[str, int]:
        return _positions(self.symbols or ())

    @cached_property
    def _by_other_id(self) -> dict[str, int]:
        return _positions(self.others or ())

    @cached_property
    def _without_version(self) -> dict[str, int]:
        """Ensembl ids and numbers alone: the symbol AC004556.1 has no version."""
        bare = [_positions([_bare_or_none(name) for name in names]) for names in (self.others or (), self.genes)]
        return bare[0] | bare[1]

    @cached_property
    def _folded(self) -> dict[str, set[int]]:
        """Name, as a translation looks for it → the genes that bear it, as id or symbol."""
        positions = defaultdict(set)
        for names in (self.genes, self.symbols or ()):
            for gene, name in enumerate(names):
                positions[self._fold(name)].add(gene)
        positions.pop("", None)
        return positions

    @cached_property
    def _partners(self) -> dict[str, set[str]]:
        partners = defaultdict(set)
        for one, other in self.aliases:
            partners[self._fold(one)].add(other)
            partners[self._fold(other)].add(one)
        return partners

    def _fold(self, name: str) -> str:
        bare = bare_id(name)
        return bare.lower() if self.ignore_case else bare

    def _refusal(self, resolution: Resolution, of: str, *, named: bool) -> str:
        share = resolution.matched / resolution.names
        parts = [f"{resolution.matched:,} of the {resolution.names:,} {of} are in the matrix"]
        if resolution.matched:
            parts[0] += f" ({share:.1%}), fewer than {100 * self.min_matched:g}%"
        if resolution.unmatched:
            parts.append(f"without a match: {examples(resolution.unmatched)}")
        if resolution.ambiguous:
            parts.append(f"borne by several genes: {examples(resolution.ambiguous)}")
        parts.append(f"the matrix has: {_own_names(self.genes, self.symbols)}")
        cause = likeliest_cause(resolution.unmatched, self.genes, self.symbols)
        parts.append(cause.words + (cause.advice if self.advise else ""))
        if resolution.matched and named:
            parts.append("to go on with those that match, give --min-matched 0")
        return "; ".join(parts)


def bare_id(name: str) -> str:
    """An Ensembl id without its version, an Entrez id without decimals; any other name as it is."""
    return without_decimals(without_version(name))


def _bare_or_none(name: str) -> str:
    return bare_id(name) if ENSEMBL.fullmatch(name) or ENTREZ.fullmatch(without_decimals(name)) else ""


def examples(names: Iterable[str]) -> str:
    """The first few distinct names, to be shown."""
    return ", ".join(list(dict.fromkeys(names))[:EXAMPLES])


def _positions(names: Sequence[str]) -> dict[str, int]:
    """Name → position; a name borne more than once → SEVERAL; the empty name is no name."""
    positions: dict[str, int] = {}
    for i, name in enumerate(names):
        positions[name] = SEVERAL if name in positions else i
    positions.pop("", None)
    return positions


def _own_names(genes: Sequence[str], symbols: Sequence[str] | None) -> str:
    if symbols is None:
        return ", ".join(genes[:EXAMPLES])
    pairs = zip(genes[:EXAMPLES], symbols[:EXAMPLES], strict=True)
    return ", ".join(f"{gene} ({symbol})" if symbol and symbol != gene else gene for gene, symbol in pairs)


# ── why names of a list are no genes of a matrix ─────────────────────────────────────────────────────────────────────


class Cause(NamedTuple):
    """A cause: how many of the missing names it explains, in words, and the option that helps, where there is one."""

    explains: int
    words: str
    advice: str = ""


NOTHING = Cause(0, "")
OTHERWISE = (
    "check that both are of one species and use the same kind of gene id, that the first column of the list names the "
    "genes, and that these were not filtered out"
)


def likeliest_cause(missing: Sequence[str], genes: Sequence[str], symbols: Sequence[str] | None) -> Cause:
    """The first of four causes that explains half of what could be missing, else the one that explains most.

    Parameters
    ----------
    missing
        Distinct names that no gene of the matrix bears.
    genes, symbols
        Of the matrix.
    """
    if not missing:
        return Cause(0, "a name of several genes is left out, since the choice is yours: name those genes by id")
    known = {*genes, *(symbols or ())} - {""}
    causes = [
        _spelled(missing, known, str.lower, "if case is ignored (human GATA1, mouse Gata1)", ": give --ignore-case"),
        _spelled(missing, known, without_genome, "without a genome's prefix (GRCh38_): the matrix is of several "
                 "species; take the genes of one"),
        _dates(missing),
        _other_kind(missing, genes, symbols),
    ]  # fmt: skip
    likely = [cause for cause in causes if cause.explains]
    sure = [cause for cause in likely if 2 * cause.explains >= min(len(missing), len(genes))]
    return (sure or sorted(likely, key=lambda cause: -cause.explains) or [Cause(1, OTHERWISE)])[0]


def _spelled(
    missing: Sequence[str], known: Iterable[str], spell: Callable[[str], str], words: str, advice: str = ""
) -> Cause:
    spelled = {spell(name) for name in known}
    found = sum(spell(name) in spelled for name in missing)
    return Cause(found, f"{found:,} of them match {words}", advice)


def _dates(missing: Sequence[str]) -> Cause:
    wrong = mangled(missing)
    found = f"{len(wrong):,} of them were made into dates by a spreadsheet ({in_words(wrong, EXAMPLES)})"
    return Cause(len(wrong), f"{found}: take the list from where it was made")


def _other_kind(missing: Sequence[str], genes: Sequence[str], symbols: Sequence[str] | None) -> Cause:
    """Another kind of id, or ids of another species."""
    asked, own = describe_names(missing), describe_names(genes)
    unclear = {asked.kind, own.kind} & {"other", "mixed"}
    same_kind = asked.kind == own.kind or (asked.kind == "symbol" and symbols is not None)
    same_species = asked.species == own.species or not (asked.species and own.species)
    if unclear or (same_kind and same_species):
        return NOTHING
    cure = ' (or add the symbols to the matrix as var["symbol"])' if asked.kind == "symbol" else ""
    words = f"the names are {asked.words()} while the matrix has {own.words()}"
    return Cause(len(missing), words, f": translate them with --gene-map FILE{cure}")
