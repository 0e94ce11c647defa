"""Gene names: what kind they are, and where a list of them lies in a matrix. Pure: numpy and the standard library."""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from os import PathLike
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import InputError

IdKind = Literal["symbol", "ensembl", "entrez", "other"]

EXAMPLES = 3
SAMPLE = 2000  # names looked at when guessing what they are: enough for a share, quick on a million cells

# Ensembl (human, mouse ENSMUSG, ...), FlyBase, WormBase, TAIR and yeast systematic names: always genes, never cells.
ENSEMBL = re.compile(
    r"(ENS[A-Z]*G\d{6,}|FBGN\d{7}|WBGENE\d{8}|AT[1-5CM]G\d{5}|Y[A-P][LR]\d{3}[WC](-[A-Z])?)(\.\d+)?", re.I
)
ENTREZ = re.compile(r"\d{1,9}")
# A letter first (or Riken's seven digits), no underscore, no space: HLA-DRA, RP11-34P13.3, Nkx2-1, 2610305D13Rik.
SYMBOL = re.compile(r"([A-Za-z]|\d{7}[A-Z]\d\d)[A-Za-z0-9.\-@/:()]{0,29}")
# Families that make up 10-30 % of any list of mammalian genes and never name a cell.
FAMILY = re.compile(
    r"(MT-[A-Z]|RP[LS]P?\d|MRP[LS]\d|COX\d|NDUF|ATP\d|HLA-|H2-|HIST\d|CD\d+$|IL\d+|CXC|CCL\d|CCR\d|TNF|IFN|STAT\d|IRF\d"
    r"|SOX\d|FOX[A-R]\d|HOX[A-D]\d|GATA\d|KLF\d|TBX\d|ZNF\d|ZFP\d|ZBTB\d|SLC\d+A|TMEM\d|FAM\d+[A-Z]|CCDC\d|KRT\d|COL\d+A\d"
    r"|LINC\d|MIR\d|RP\d+-\d|A[CLP]\d{6}\.\d|GM\d{3,5}$|\d{7}[A-Z]\d\dRIK|ARID\d|CLEC\d|MAPK\d|PPP\d|PSM[ABCD]\d|EIF\d"
    r"|HDAC\d|CDK\d|DNAJ|HSP|S100A|TUB[ABG]|ACTB$|GAPDH$|MALAT1$|B2M$|XIST$)",
    re.I,
)
GENOME_PREFIX = re.compile(r"(GRCh3[78]|hg19|hg38|GRCm3[89]|mm9|mm10|mm39)_+", re.I)  # 10x names of mixed species
# A run of bases; sequencing accessions; "cell 12"; a last part after "_" that is a plate well or a running number,
# except in simulated "gene_12".
BARCODE = re.compile(
    r".*(?<![A-Za-z])[ACGTN]{8,}(?![A-Za-z]).*|(GSM|[SED]R[RSX]|SAM[NED]A?)\d{4,}.*|.*cell[ ._-]?\d+.*"
    r"|(?!gene).*_[A-Za-z]{0,2}\d+",
    re.I,
)


@dataclass(frozen=True, eq=False)
class Resolution:
    """Where each of a list of names lies among the genes of a matrix.

    Parameters
    ----------
    index : (name,) int64, position of the gene in the matrix, -1 where nothing or more than one gene matched
    matched : number of names with a gene
    unmatched : the first distinct names that no gene bears
    ambiguous : all distinct names that more than one gene bears; they are not matched, since the choice is the user's
    own : the first names of the matrix, to be shown beside the unmatched ones
    hint : a guess at why names are missing; empty when none is missing or no guess fits
    """

    index: NDArray[np.int64]
    matched: int
    unmatched: tuple[str, ...] = ()
    ambiguous: tuple[str, ...] = ()
    own: tuple[str, ...] = ()
    hint: str = ""


def resolve(
    names: Sequence[str],
    genes: Sequence[str],
    symbols: Sequence[str] | None = None,
    cells: Sequence[str] | None = None,
) -> Resolution:
    """Find each name among the gene ids, then among the symbols; both exactly as they are spelled.

    Parameters
    ----------
    names : the names to find; a repeated name is found each time
    genes : (gene,) ids of the matrix
    symbols : (gene,) symbols of the matrix, "" where a gene has none; absent: ids only
    cells : names of the cells, only to recognise a transposed matrix in the hint; absent: not looked at
    """
    by_id = _positions(genes)
    by_symbol = _positions(symbols) if symbols is not None else {}
    found = [by_id.get(name, by_symbol.get(name, _ABSENT)) for name in names]
    index = np.array([f if f >= 0 else -1 for f in found], dtype=np.int64)
    missing = _distinct(name for name, f in zip(names, found, strict=True) if f == _ABSENT)
    return Resolution(
        index=index,
        matched=int((index >= 0).sum()),
        unmatched=tuple(missing[:EXAMPLES]),
        ambiguous=tuple(_distinct(name for name, f in zip(names, found, strict=True) if f == _SEVERAL)),
        own=_own_names(genes, symbols),
        hint=_hint(missing, genes, symbols, cells),
    )


def require_matches(
    resolution: Resolution, what: str = "genes", file: str | PathLike[str] | None = None, minimum: float = 0.0
) -> None:
    """Refuse a list of names of which none, or too few, are genes of the matrix.

    Parameters
    ----------
    what : the names in the plural, for the message: regulators, targets, genes
    file : where the names come from; absent: the message names no file
    minimum : smallest share of names that must match, in [0, 1]

    Raises
    ------
    InputError
        the list is empty, no name matches, or less than `minimum` of them do
    """
    of, n = f" of {file}" if file is not None else "", len(resolution.index)
    if n == 0:
        raise InputError(f"no {what}{of}: the list is empty; give one gene name per line")
    if resolution.matched and resolution.matched >= minimum * n:
        return
    parts = [f"{resolution.matched} of the {n} {what}{of} are genes of the matrix"]
    if resolution.unmatched:
        parts.append(f"without a match: {', '.join(resolution.unmatched)}")
    if resolution.ambiguous:
        parts.append(f"borne by several genes: {', '.join(resolution.ambiguous[:EXAMPLES])}")
    parts.append(f"the matrix has: {', '.join(resolution.own)}")
    parts.append(resolution.hint or "check that both name the same species and use the same kind of gene id")
    raise InputError("; ".join(parts))


def id_kind(names: Sequence[str]) -> IdKind:
    """The kind of most of the names. Numbers that merely count 0, 1, 2, ... are "other", not Entrez ids."""
    sample = _sample(names)
    if _share(ENSEMBL, sample) >= 0.5:
        return "ensembl"
    if _share(ENTREZ, sample) >= 0.5:
        return "other" if _counts_up(sample) else "entrez"
    return "symbol" if _share(SYMBOL, sample) >= 0.5 and not looks_like_barcodes(sample) else "other"


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


_ABSENT, _SEVERAL = -1, -2


def _positions(names: Sequence[str]) -> dict[str, int]:
    """Name → position; a name borne more than once → _SEVERAL; the empty name is no name."""
    positions: dict[str, int] = {}
    for i, name in enumerate(names):
        positions[name] = _SEVERAL if name in positions else i
    positions.pop("", None)
    return positions


def _hint(
    missing: Sequence[str], genes: Sequence[str], symbols: Sequence[str] | None, cells: Sequence[str] | None
) -> str:
    """The likeliest reason why names are missing, surest first."""
    if not missing:
        return ""
    if cells is not None and 2 * (n := _hits(missing, cells, str)) >= len(missing):
        return f"{n} of them are names of cells of the matrix: is it transposed?"
    known = [*genes, *(symbols or ())]
    if n := _hits(missing, known, _without_version):
        return f"{n} of them match without the version after the dot (ENSG00000000003.15): strip it on both sides"
    if n := _hits(missing, known, str.upper):
        return f"{n} of them match if case is ignored: human spelling (GATA1) against mouse spelling (Gata1)?"
    if n := _hits(missing, known, str.strip):
        return f"{n} of them match without the spaces around them"
    return _kind_hint(id_kind(missing), id_kind(genes), has_symbols=symbols is not None)


def _kind_hint(asked: IdKind, own: IdKind, *, has_symbols: bool) -> str:
    words = {"symbol": "symbols", "ensembl": "Ensembl ids", "entrez": "Entrez ids"}
    if asked == own or asked not in words or own not in words or (asked == "symbol" and has_symbols):
        return ""
    cure = ' (or add the symbols as var["symbol"])' if asked == "symbol" else ""
    return f"the names are {words[asked]} while the matrix has {words[own]}: translate the list{cure}"


def _hits(names: Iterable[str], known: Iterable[str], spell: Callable[[str], str]) -> int:
    spelled = {spell(name) for name in known} - {""}
    return sum(spell(name) in spelled for name in names)


def _without_version(name: str) -> str:
    return name.split(".")[0] if ENSEMBL.fullmatch(name) else name


def _own_names(genes: Sequence[str], symbols: Sequence[str] | None) -> tuple[str, ...]:
    if symbols is None:
        return tuple(genes[:EXAMPLES])
    pairs = zip(genes[:EXAMPLES], symbols[:EXAMPLES], strict=True)
    return tuple(f"{gene} ({symbol})" if symbol and symbol != gene else gene for gene, symbol in pairs)


def _distinct(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))


def _sample(names: Sequence[str]) -> list[str]:
    """Up to SAMPLE names spread evenly over all, without the genome prefix of mixed-species references."""
    step = max(1, -(-len(names) // SAMPLE))
    return [GENOME_PREFIX.sub("", name) for name in names[::step]]


def _share(pattern: re.Pattern[str], names: Sequence[str]) -> float:
    return sum(pattern.fullmatch(name) is not None for name in names) / len(names) if names else 0.0


def _counts_up(names: Sequence[str]) -> bool:
    numbers = [int(name) for name in names if name.isdecimal()]
    steps = {b - a for a, b in pairwise(numbers)}
    return numbers[0] in (0, 1) and len(steps) <= 1
