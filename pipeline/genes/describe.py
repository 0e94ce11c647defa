"""What the gene names of a matrix or of a list are: kind, versions, species, and what is wrong with them. Pure."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pairscape.pipeline.genes.names import (
    ENSEMBL,
    IdKind,
    Species,
    counts_up,
    guess_species,
    in_words,
    kind_of,
    mangled,
    without_genome,
)

MIXED = 0.05  # share of names of a second kind from which on a list is mixed
EXAMPLES = 3
WORDS = {"symbol": "symbols", "ensembl": "Ensembl ids", "entrez": "Entrez ids", "other": "other names"}


@dataclass(frozen=True)
class Share:
    """Names of one kind.

    Attributes
    ----------
    kind
        Which.
    names
        How many.
    share
        Of all names that are not empty, in [0, 1].
    examples
        The first of them.
    """

    kind: IdKind
    names: int
    share: float
    examples: tuple[str, ...]


@dataclass(frozen=True)
class Understanding:
    """What gene names are.

    Attributes
    ----------
    names
        How many, empty ones included.
    kind
        Kind of the names; `mixed` where a second kind has one in twenty or more.
    shares
        Every kind that is there, the commonest first.
    versioned
        Ensembl ids that end in a version (ENSG00000000003.15).
    species
        The guess, and what it rests on.
    empty
        Names that are empty or blank.
    repeated
        Distinct names that more than one gene bears.
    mangled
        Names that a spreadsheet made into dates or numbers → what they may have been.
    named
        Genes with a symbol beside their id; None where no symbols came with them.
    shared_symbols
        Distinct symbols that more than one gene bears.
    """

    names: int
    kind: Literal["symbol", "ensembl", "entrez", "other", "mixed"]
    shares: tuple[Share, ...]
    versioned: int
    species: Species
    empty: int
    repeated: tuple[str, ...]
    mangled: dict[str, tuple[str, ...]]
    named: int | None
    shared_symbols: tuple[str, ...]

    def lines(self) -> list[str]:
        """What is understood, a fact a line; what is wrong stands below it, with what to do."""
        return [self._kind_line(), self._species_line(), *self._troubles()]

    def _kind_line(self) -> str:
        said = [f"{s.names:,} {WORDS[s.kind]} ({', '.join(s.examples)})" for s in self.shares]
        line = f"gene names: {', '.join(said) or 'none'}"
        ensembl = sum(s.names for s in self.shares if s.kind == "ensembl")
        if self.versioned:
            line += "; with versions" if self.versioned == ensembl else f"; {self.versioned:,} of them with a version"
        if self.named is not None:
            line += f"; symbols beside them for {self.named:,} of {self.names:,}"
        return line

    def _species_line(self) -> str:
        name, reason = self.species.name, self.species.reason
        return f"species: {name}, guessed from {reason}" if name else f"species: not told ({reason})"

    def _troubles(self) -> list[str]:
        said = []
        if self.empty:
            said.append(f"empty names: {self.empty:,}; no list finds these genes")
        if self.repeated:
            said.append(f"names that several genes bear: {_counted(self.repeated)}")
        if self.shared_symbols:
            said.append(f"symbols that several genes bear: {_counted(self.shared_symbols)}")
        if self.mangled:
            said.append(
                f"made into dates or numbers by a spreadsheet: {len(self.mangled):,}, "
                f"{in_words(self.mangled, EXAMPLES)}; they stay so, and no list finds them: correct them in the source "
                "or take it from its maker"
            )
        return said


def describe_names(genes: Sequence[str], symbols: Sequence[str] | None = None) -> Understanding:
    """What the names of genes are.

    Parameters
    ----------
    genes
        Ids of the genes as they are in the source, before anything is made unique.
    symbols
        Symbols beside them, "" where a gene has none; absent: none are known.
    """
    filled = [name for name in genes if name.strip()]
    wrong = mangled(filled) | mangled([symbol for symbol in symbols or () if symbol])
    shares = _shares(filled, wrong)
    species = guess_species([name for name in filled if name not in wrong])
    if species.name is None and symbols is not None:
        species = guess_species([symbol for symbol in symbols if symbol])
    return Understanding(
        names=len(genes),
        kind=_kind(shares),
        shares=shares,
        versioned=sum("." in name and ENSEMBL.fullmatch(without_genome(name)) is not None for name in filled),
        species=species,
        empty=len(genes) - len(filled),
        repeated=_repeated(filled),
        mangled=wrong,
        named=None if symbols is None else sum(bool(symbol.strip()) for symbol in symbols),
        shared_symbols=() if symbols is None else _repeated([symbol for symbol in symbols if symbol.strip()]),
    )


def _shares(names: Sequence[str], wrong: dict[str, tuple[str, ...]]) -> tuple[Share, ...]:
    """A mangled name was a symbol; numbers that merely count are no Entrez ids."""
    numbered = counts_up(names)
    of_kind: dict[IdKind, list[str]] = {}
    for name in names:
        kind = "symbol" if name in wrong else "other" if numbered else kind_of(name)
        of_kind.setdefault(kind, []).append(name)
    ranked = sorted(of_kind.items(), key=lambda item: (-len(item[1]), item[0]))
    return tuple(Share(kind, len(n), len(n) / len(names), tuple(dict.fromkeys(n))[:EXAMPLES]) for kind, n in ranked)


def _kind(shares: Sequence[Share]) -> Literal["symbol", "ensembl", "entrez", "other", "mixed"]:
    if not shares:
        return "other"
    return "mixed" if len(shares) > 1 and shares[1].share >= MIXED else shares[0].kind


def _repeated(names: Sequence[str]) -> tuple[str, ...]:
    return tuple(name for name, times in Counter(names).items() if times > 1)


def _counted(names: Sequence[str]) -> str:
    return f"{len(names):,} ({', '.join(names[:EXAMPLES])}{', …' if len(names) > EXAMPLES else ''})"
