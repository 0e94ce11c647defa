"""What the gene names of a matrix or of a list are: kind, versions, species, and what is wrong with them. Pure."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pairscape.pipeline.genes.names import ENSEMBL, GENOME_PREFIX, IdKind, counts_up, in_words, kind_of, mangled
from pairscape.pipeline.genes.names import without_genome as bare

Kind = Literal["symbol", "ensembl", "entrez", "other", "mixed"]

MIXED = 0.05  # share of names of a second kind from which on a list is mixed, and of ids of a second species
EXAMPLES = 3
WORDS: dict[Kind, str] = {
    "symbol": "symbols", "ensembl": "Ensembl ids", "entrez": "Entrez ids", "other": "other names",
    "mixed": "names of several kinds",
}  # fmt: skip
# Letter case and families of symbols prove no species: BEELINE's mouse genes are in capitals, rats are spelled as mice.
PREFIXES = {
    "ENSG": "human",
    "ENSMUSG": "mouse",
    "ENSRNOG": "rat",
    "ENSDARG": "zebrafish",
    "ENSSSCG": "pig",
    "ENSBTAG": "cow",
    "ENSGALG": "chicken",
    "ENSMMUG": "rhesus macaque",
    "ENSMFAG": "crab-eating macaque",
    "ENSPTRG": "chimpanzee",
    "ENSCAFG": "dog",
    "ENSOCUG": "rabbit",
    "ENSXETG": "western clawed frog",
    "FBGN": "fruit fly",
    "WBGENE": "nematode C. elegans",
    "AT": "thale cress",
    "Y": "budding yeast",
}
STABLE_ID = re.compile(r"(ENS[A-Z]*G|FBGN|WBGENE|AT(?=[1-5CM]G)|Y(?=[A-P][LR]))", re.I)
GENOMES = {
    "grch": "human", "hg": "human", "grcm": "mouse", "mm": "mouse", "rn": "rat", "grcz": "zebrafish", "dm": "fruit fly",
    "ce": "nematode C. elegans",
}  # fmt: skip


@dataclass(frozen=True)
class Share:
    """Names of one kind: how many, their share of all that are not empty, and the first of them."""

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
        The species that most ids, or prefixes of a mixed reference, name; "several" where a second one has one in
        twenty or more; "" where nothing names one, as with symbols.
    empty
        Names that are empty or blank.
    repeated
        Distinct names that more than one gene bears.
    mangled
        Names that a spreadsheet made into dates → what they may have been.
    named
        Genes with a symbol beside their id; None where no symbols came with them.
    shared_symbols
        Distinct symbols that more than one gene bears.
    """

    names: int
    kind: Kind
    shares: tuple[Share, ...]
    versioned: int
    species: str
    empty: int
    repeated: tuple[str, ...]
    mangled: dict[str, tuple[str, ...]]
    named: int | None
    shared_symbols: tuple[str, ...]

    def words(self) -> str:
        """Kind and species: Ensembl ids of mouse."""
        return WORDS[self.kind] + (f" of {self.species}" if self.species not in ("", "several") else "")

    def lines(self) -> list[str]:
        """What is understood, a fact a line; what is wrong stands below it, with what to do."""
        species = {"": [], "several": ["species: several, by the prefixes of the names"]}
        return [
            self._kind_line(),
            *species.get(self.species, [f"species: {self.species}, by the prefix of the names"]),
            *self._troubles(),
        ]

    def _kind_line(self) -> str:
        said = [f"{s.names:,} {WORDS[s.kind]} ({', '.join(s.examples)})" for s in self.shares]
        line = f"gene names: {', '.join(said) or 'none'}"
        ensembl = sum(s.names for s in self.shares if s.kind == "ensembl")
        if self.versioned:
            line += "; with versions" if self.versioned == ensembl else f"; {self.versioned:,} of them with a version"
        if self.named is not None:
            line += f"; symbols beside them for {self.named:,} of {self.names:,}"
        return line

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
                f"made into dates by a spreadsheet: {len(self.mangled):,}, {in_words(self.mangled, EXAMPLES)}; they "
                "stay so, and no list finds them: correct them in the source or take it from its maker"
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
    return Understanding(
        names=len(genes),
        kind=_kind(shares),
        shares=shares,
        versioned=sum("." in name and ENSEMBL.fullmatch(bare(name)) is not None for name in filled),
        species=_species(filled),
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


def _kind(shares: Sequence[Share]) -> Kind:
    if not shares:
        return "other"
    return "mixed" if len(shares) > 1 and shares[1].share >= MIXED else shares[0].kind


def _species(names: Sequence[str]) -> str:
    told = Counter(species for name in names if (species := _species_of(name)))
    best = told.most_common(1)
    if not best:
        return ""
    return best[0][0] if best[0][1] > (1 - MIXED) * told.total() else "several"


def _species_of(name: str) -> str:
    """By the prefix of a mixed reference, else by that of an id; "" where neither is there."""
    if genome := GENOME_PREFIX.match(name):
        return GENOMES[re.sub(r"\d+_*$", "", genome[0].lower())]
    if not ENSEMBL.fullmatch(name) or (found := STABLE_ID.match(name)) is None:
        return ""
    return PREFIXES.get(found[0].upper(), f"Ensembl's {found[0].upper()}")


def _repeated(names: Sequence[str]) -> tuple[str, ...]:
    return tuple(name for name, times in Counter(names).items() if times > 1)


def _counted(names: Sequence[str]) -> str:
    return f"{len(names):,} ({', '.join(names[:EXAMPLES])}{', …' if len(names) > EXAMPLES else ''})"
