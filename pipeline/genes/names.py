"""What a name looks like: a gene id of some kind, a symbol, a cell's barcode, a date that was a symbol. Pure."""

import re
from collections.abc import Sequence
from datetime import date, timedelta
from itertools import pairwise
from typing import Literal

IdKind = Literal["symbol", "ensembl", "entrez", "other"]

SAMPLE = 2000  # names looked at when guessing what they are: enough for a share, quick on a million cells

# Ensembl (human, mouse ENSMUSG, ...), FlyBase, WormBase, TAIR and yeast systematic names: always genes, never cells.
ENSEMBL = re.compile(
    r"(ENS[A-Z]*G\d{6,}|FBGN\d{7}|WBGENE\d{8}|AT[1-5CM]G\d{5}|Y[A-P][LR]\d{3}[WC](-[A-Z])?)(\.\d+)?", re.I
)
ENTREZ = re.compile(r"\d{1,9}")
DECIMAL = re.compile(r"\d{1,9}\.0+")
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
GENOME_PREFIX = re.compile(  # 10x names of mixed species
    r"^(GRCh3[678]|hg1[89]|hg38|GRCm3[89]|mm9|mm10|mm39|rn[4567]|GRCz1[01]|dm[36]|ce1[01])_+", re.I
)
# A run of bases; sequencing accessions; "cell 12"; a last part after "_" that is a plate well or a running number,
# except in simulated "gene_12".
BARCODE = re.compile(
    r".*(?<![A-Za-z])[ACGTN]{8,}(?![A-Za-z]).*|(GSM|[SED]R[RSX]|SAM[NED]A?)\d{4,}.*|.*cell[ ._-]?\d+.*"
    r"|(?!gene).*_[A-Za-z]{0,2}\d+",
    re.I,
)


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
    if not names or not all(name.isdecimal() for name in names):
        return False
    steps = {int(b) - int(a) for a, b in pairwise(names)}
    return int(names[0]) in (0, 1) and len(steps) <= 1


def without_genome(name: str) -> str:
    """CTSH of GRCh38_CTSH, the name in a reference of several species; any other name as it is."""
    return GENOME_PREFIX.sub("", name, count=1)


def without_version(name: str) -> str:
    """ENSG00000000003 of ENSG00000000003.15; any other name as it is, as AC004556.1 is a symbol."""
    return name.split(".")[0] if "." in name and ENSEMBL.fullmatch(name) else name


def without_decimals(name: str) -> str:
    """1000 of 1000.0, as pandas writes Entrez ids beside a missing one; any other name as it is."""
    return name.split(".")[0] if DECIMAL.fullmatch(name) else name


def unquoted(name: str) -> str:
    """TP53 of "TP53" or 'TP53'; a quote on one side alone is part of the name."""
    bare = name.strip()
    return bare[1:-1] if len(bare) > 2 and bare[0] == bare[-1] and bare[0] in "\"'" else name


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


# ── symbols that a spreadsheet made into dates ───────────────────────────────────────────────────────────────────────
# A fifth of the papers with lists of genes had some (Ziemann et al., Genome Biology 17:177, 2016), and the symbols have
# been renamed (Bruford et al., Nature Genetics 52:754, 2020). What was lost is not certain: 2-Mar was MARCH2 or MARC2.

# Month → series of symbols read as its days, each: days, today's symbol, the symbol that was typed.
SERIES: dict[int, tuple[tuple[frozenset[int], str, str], ...]] = {
    3: ((frozenset(range(1, 12)), "MARCHF{}", "MARCH{}"), (frozenset({1, 2}), "MTARC{}", "MARC{}")),
    9: ((frozenset({*range(1, 13), 14}), "SEPTIN{}", "SEPT{}"), (frozenset({15}), "SELENOF", "SEP{}")),
    10: ((frozenset({1, 2}), "POU2F{}", "OCT{}"), (frozenset({4}), "POU5F1", "OCT{}")),
    12: ((frozenset({1}), "DELEC1", "DEC{}"), (frozenset({2}), "BHLHE41", "DEC{}")),
}
MONTHS = {"mar": 3, "mrz": 3, "mär": 3, "sep": 9, "sept": 9, "oct": 10, "okt": 10, "dec": 12, "dez": 12}
DAY_MONTH = re.compile(r"(?P<day>\d{1,2})[-.][ ]?(?P<month>[a-zä]{3,4})", re.I)  # 2-Mar, 2. Mrz
MONTH_DAY = re.compile(r"(?P<month>[a-zä]{3,4})-(?P<day>\d\d)", re.I)  # Mar-02; sep-1 is a gene of the worm
ISO = re.compile(r"\d{4}-(?P<month>\d\d)-(?P<day>\d\d)([ T]00:00:00)?")
SERIAL = re.compile(r"\d{5}")
FIRST_DAY = date(1899, 12, 30)
SERIALS = range(34_700, 54_788)  # 1995 to 2049


def originals(name: str) -> tuple[str, ...]:
    """Symbols that a name may have been before a spreadsheet read it, such as MARCHF2/MARCH2; none where it is sound.

    Serial numbers of days (43891) are not told from Entrez ids here: see `serial_originals`.
    """
    for form in (DAY_MONTH, MONTH_DAY, ISO):
        if found := form.fullmatch(name):
            month = found["month"].lower()
            return _of_day(int(month) if month.isdigit() else MONTHS.get(month, 0), int(found["day"]))
    return ()


def serial_originals(name: str) -> tuple[str, ...]:
    """Symbols that a whole number may have been that counts days since 1900; only for numbers beside symbols."""
    if not SERIAL.fullmatch(name) or int(name) not in SERIALS:
        return ()
    day = FIRST_DAY + timedelta(days=int(name))
    return _of_day(day.month, day.day)


def mangled(names: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """The distinct names that look mangled → what they may have been.

    A number of five digits is a day where most of the names are symbols, and an Entrez id elsewhere.
    """
    suspects = [name for name in dict.fromkeys(names) if name[:1].isdigit() or name[-1:].isdigit()]
    found = {name: was for name in suspects if (was := originals(name))}
    serials = {name: was for name in suspects if (was := serial_originals(name))}
    if serials and 2 * sum(name in found or kind_of(name) == "symbol" for name in names) > len(names):
        found |= serials
    return found


def in_words(found: dict[str, tuple[str, ...]], most: int) -> str:
    """The first few mangled names with what they may have been: 2-Mar (MARCHF2/MARCH2 or MTARC2/MARC2)."""
    said = [f"{name} ({' or '.join(was)})" for name, was in list(found.items())[:most]]
    return ", ".join(said) + (", …" if len(found) > most else "")


def _of_day(month: int, day: int) -> tuple[str, ...]:
    series = SERIES.get(month, ())
    return tuple(f"{now.format(day)}/{typed.format(day)}" for days, now, typed in series if day in days)
