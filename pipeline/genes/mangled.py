"""Gene symbols that a spreadsheet made into dates or numbers, and what they probably were. Pure.

A fifth of the papers with lists of genes had some (Ziemann et al., Genome Biology 17:177, 2016), and the symbols have
been renamed (Bruford et al., Nature Genetics 52:754, 2020). What was lost is not certain: 2-Mar was MARCH2 or MARC2.
"""

import re
from collections.abc import Sequence
from datetime import date, timedelta

from pairscape.pipeline.genes.names import kind_of

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
FLOAT = re.compile(r"(?P<lead>\d)(\.(?P<rest>\d+))?E\+(?P<exponent>\d\d)", re.I)
CLONE_DIGITS = 7  # of a Riken clone such as 2310009E13: it is read as 2310009 times ten to the 13


def originals(name: str) -> tuple[str, ...]:
    """Symbols that a name may have been before a spreadsheet read it, such as MARCHF2/MARCH2; none where it is sound.

    Serial numbers of days (43891) are not told from Entrez ids here: see `serial_originals`.
    """
    if clone := FLOAT.fullmatch(name):
        return _clone(clone)
    for form in (DAY_MONTH, MONTH_DAY, ISO):
        if found := form.fullmatch(name):
            month = found["month"].lower()
            return _of_day(int(month) if month.isdigit() else MONTHS.get(month, 0), int(found["day"]))
    return ()


def serial_originals(name: str) -> tuple[str, ...]:
    """As `originals`, of a whole number that counts days since 1900; only to be asked of a number beside symbols."""
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


def _clone(number: re.Match[str]) -> tuple[str, ...]:
    row = int(number["exponent"]) - (CLONE_DIGITS - 1)
    if not 1 <= row <= 24:  # columns of a plate of 384
        return ()
    known = number["lead"] + (number["rest"] or "")
    return (f"the Riken clone {known[:CLONE_DIGITS].ljust(CLONE_DIGITS, '?')}E{row:02d}",)
