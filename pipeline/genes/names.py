"""What a name looks like: a gene id of some kind, a symbol, a cell's barcode. Pure: the standard library only."""

import re
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

IdKind = Literal["symbol", "ensembl", "entrez", "other"]

SAMPLE = 2000  # names looked at when guessing what they are: enough for a share, quick on a million cells

# Ensembl (human, mouse ENSMUSG, ...), FlyBase, WormBase, TAIR and yeast systematic names: always genes, never cells.
ENSEMBL = re.compile(
    r"(ENS[A-Z]*G\d{6,}|FBGN\d{7}|WBGENE\d{8}|AT[1-5CM]G\d{5}|Y[A-P][LR]\d{3}[WC](-[A-Z])?)(\.\d+)?", re.I
)
ENTREZ = re.compile(r"\d{1,9}")
# A letter first (or Riken's seven digits), no underscore, no space: HLA-DRA, RP11-34P13.3, Nkx2-1, 2610305D13Rik.
SYMBOL = re.compile(r"([A-Za-z]|\d{7}[A-Za-z]\d\d)[A-Za-z0-9.\-@/:()]{0,29}")
# Families that make up 10-30 % of any list of mammalian genes and never name a cell.
FAMILY = re.compile(
    r"(MT-[A-Z]|RP[LS]P?\d|MRP[LS]\d|COX\d|NDUF|ATP\d|HLA-|H2-|HIST\d|CD\d+$|IL\d+|CXC|CCL\d|CCR\d|TNF|IFN|STAT\d|IRF\d"
    r"|SOX\d|FOX[A-R]\d|HOX[A-D]\d|GATA\d|KLF\d|TBX\d|ZNF\d|ZFP\d|ZBTB\d|SLC\d+A|TMEM\d|FAM\d+[A-Z]|CCDC\d|KRT\d|COL\d+A\d"
    r"|LINC\d|MIR\d|RP\d+-\d|A[CLP]\d{6}\.\d|GM\d{3,5}$|\d{7}[A-Z]\d\dRIK|ARID\d|CLEC\d|MAPK\d|PPP\d|PSM[ABCD]\d|EIF\d"
    r"|HDAC\d|CDK\d|DNAJ|HSP|S100A|TUB[ABG]|ACTB$|GAPDH$|MALAT1$|B2M$|XIST$)",
    re.I,
)
GENOME_PREFIX = re.compile(r"^(GRCh3[78]|hg19|hg38|GRCm3[89]|mm9|mm10|mm39)_+", re.I)  # 10x names of mixed species
# A run of bases; sequencing accessions; "cell 12"; a last part after "_" that is a plate well or a running number,
# except in simulated "gene_12".
BARCODE = re.compile(
    r".*(?<![A-Za-z])[ACGTN]{8,}(?![A-Za-z]).*|(GSM|[SED]R[RSX]|SAM[NED]A?)\d{4,}.*|.*cell[ ._-]?\d+.*"
    r"|(?!gene).*_[A-Za-z]{0,2}\d+",
    re.I,
)


def id_kind(names: Sequence[str]) -> IdKind:
    """The kind of most of the names. Numbers that merely count 0, 1, 2, ... are "other", not Entrez ids."""
    sample = _sample(names)
    if _share(ENSEMBL, sample) >= 0.5:
        return "ensembl"
    if _share(ENTREZ, sample) >= 0.5:
        return "other" if _counts_up(sample) else "entrez"
    return "symbol" if _share(SYMBOL, sample) >= 0.5 and not looks_like_barcodes(sample) else "other"


def kind_of(name: str) -> IdKind:
    """The kind of one name, without the genome prefix of mixed references; a number is taken for an Entrez id."""
    bare = without_genome(name)
    if ENSEMBL.fullmatch(bare):
        return "ensembl"
    if ENTREZ.fullmatch(bare):
        return "entrez"
    return "symbol" if SYMBOL.fullmatch(bare) and not BARCODE.fullmatch(bare) else "other"


def counts_up(names: Sequence[str]) -> bool:
    """Whether names merely number rows: 0, 1, 2, …, or from 1."""
    return bool(names) and all(name.isdecimal() for name in names) and _counts_up(names)


def without_genome(name: str) -> str:
    """CTSH of GRCh38_CTSH, the name in a reference of several species; any other name as it is."""
    return GENOME_PREFIX.sub("", name, count=1)


def without_version(name: str) -> str:
    """ENSG00000000003 of ENSG00000000003.15; any other name as it is, as AC004556.1 is a symbol."""
    return name.split(".")[0] if "." in name and ENSEMBL.fullmatch(name) else name


def looks_like_genes(names: Sequence[str]) -> bool:
    """Half the names are Ensembl-like ids, or most have a symbol's shape and 3 % or more (two at least) a known family.

    Families are those of mammals: symbols of other kingdoms are not claimed to be genes, which is the cautious side.
    """
    sample = _sample(names)
    if _share(ENSEMBL, sample) >= 0.5:
        return True
    known = sum(FAMILY.match(name) is not None for name in sample)
    return known >= max(2, 0.03 * len(sample)) and _share(SYMBOL, sample) >= 0.8 and not looks_like_barcodes(names)


def looks_like_barcodes(names: Sequence[str]) -> bool:
    """Half the names hold a run of eight bases, an accession (GSM1, SRR1), "cell12", or end in "_S10", "_A04", "_7"."""
    return _share(BARCODE, _sample(names)) >= 0.5


def _sample(names: Sequence[str]) -> list[str]:
    """Up to SAMPLE names spread evenly over all, without the genome prefix of mixed-species references."""
    step = max(1, -(-len(names) // SAMPLE))
    return [without_genome(name) for name in names[::step]]


def _share(pattern: re.Pattern[str], names: Sequence[str]) -> float:
    return sum(pattern.fullmatch(name) is not None for name in names) / len(names) if names else 0.0


def _counts_up(names: Sequence[str]) -> bool:
    numbers = [int(name) for name in names if name.isdecimal()]
    steps = {b - a for a, b in pairwise(numbers)}
    return numbers[0] in (0, 1) and len(steps) <= 1
