"""A guess at the species from nothing but gene names, and what it rests on. Pure.

Letter case alone is no proof: BEELINE's mouse genes are in capitals, and rats are spelled as mice are. So a guess rests
on the prefix of Ensembl ids or of a mixed reference, else on families that are named differently, and last on case.
Other mammals are named as human is: only their ids tell them.
"""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pairscape.pipeline.genes.names import ENSEMBL, GENOME_PREFIX, without_genome

AGREEMENT = 0.9  # share of the names with evidence that must point to one species
EXAMPLES = 3
CASE_SHARE, CASE_NAMES = 0.8, 20  # symbols from which on their letter case is worth a guess

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
GENOMES = {"grch": "human", "hg": "human", "grcm": "mouse", "mm": "mouse"}
# Families of one species alone: HLA against H2 (mouse) and RT1 (rat), ZNF against Zfp (ZFP36 is human too), clones, and
# the mitochondrial genes, of which the letter case does tell.
MARKERS = {
    "human": re.compile(r"(?i:HLA-|ZNF\d|LINC\d{5}|RP11-\d)|MT-(ND\d|CO\d|ATP\d|CYB|RNR\d)"),
    "mouse": re.compile(r"(?i:H2-[A-Z]|ZFP(?!36)\d|GM\d{3,5}$|\d{7}[A-Z]\d\dRIK$)|mt-(Nd\d|Co\d|Atp\d|Cytb|Rnr\d)"),
    "rat": re.compile(r"(?i:RT1-[A-Z])|Mt-(nd\d|co\d|atp\d|cyb)"),
}
TITLE = re.compile(r"[A-Z][a-z]+[a-z0-9\-]*\d*[a-z]?")


@dataclass(frozen=True)
class Species:
    """A guess.

    Attributes
    ----------
    name
        "human", "mouse", another species, or the Ensembl prefix of one not known here; None where nothing tells.
    reason
        What it rests on, or why there is none, in words.
    """

    name: str | None
    reason: str


def guess_species(names: Sequence[str]) -> Species:
    """The species of gene ids or symbols; the surest evidence that is there decides.

    Parameters
    ----------
    names
        As the matrix or the list has them.
    """
    if found := _agreed(names, _genome, "the prefix of the reference in"):
        return found
    bare = [without_genome(name) for name in names]
    if found := _agreed(bare, _of_prefix, "the prefix of the ids, as"):
        return found
    if found := _agreed(bare, _of_family, "names of its own, as"):
        return found
    return _of_case(bare)


def _agreed(names: Sequence[str], species_of: Callable[[str], str | None], basis: str) -> Species | None:
    """The species that nearly all evidence points to; None without evidence."""
    told = {name: species for name in names if (species := species_of(name)) is not None}
    if not told:
        return None
    counted = Counter(told.values()).most_common()
    best, votes = counted[0]
    if votes >= AGREEMENT * len(told):
        shown = [name for name, species in told.items() if species == best][:EXAMPLES]
        return Species(best, f"{basis} {', '.join(shown)}")
    shares = ", ".join(f"{n / len(told):.0%} {species}" for species, n in counted[:EXAMPLES])
    return Species(None, f"several species: {shares}")


def _genome(name: str) -> str | None:
    found = GENOME_PREFIX.match(name)
    return GENOMES[re.sub(r"\d+_*$", "", found[0].lower())] if found else None


def _of_prefix(name: str) -> str | None:
    if not ENSEMBL.fullmatch(name):
        return None
    found = STABLE_ID.match(name)
    return None if found is None else PREFIXES.get(found[0].upper(), f"Ensembl's {found[0].upper()}")


def _of_family(name: str) -> str | None:
    return next((species for species, family in MARKERS.items() if family.match(name)), None)


def _of_case(names: Sequence[str]) -> Species:
    words = [name for name in names if name[:1].isalpha() and len(name) > 2]
    if not words:
        return Species(None, "no symbols, and numbers tell none")
    if len(words) < CASE_NAMES:
        return Species(None, "too few symbols to tell by")
    title = sum(TITLE.fullmatch(name) is not None for name in words) / len(words)
    if title >= CASE_SHARE:
        return Species("mouse", f"spelled like {_first(words, TITLE)}, as mouse is, and rat")
    if sum(name.isupper() for name in words) >= CASE_SHARE * len(words):
        return Species(None, "capitals, as human is spelled, and no family that is named so in one species only")
    return Species(None, "no family that is named so in one species only, and no letter case that tells")


def _first(names: Sequence[str], pattern: re.Pattern[str]) -> str:
    return next(name for name in names if pattern.fullmatch(name))
