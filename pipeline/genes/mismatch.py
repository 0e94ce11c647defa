"""Why names of a list are no genes of a matrix: the likeliest cause, and what to do about it. Pure."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from pairscape.pipeline.genes.describe import WORDS, describe_names
from pairscape.pipeline.genes.lists import read_rows
from pairscape.pipeline.genes.names import guess_species, in_words, looks_like_barcodes, mangled, without_genome

EXAMPLES = 3
OTHERWISE = "check that both are of one species, use the same kind of gene id, and that the genes were not filtered out"

SPELLINGS: tuple[tuple[Callable[[str], str], str, str], ...] = (
    (str.lower, "if case is ignored (human GATA1, mouse Gata1)", ": give --ignore-case"),
    (
        without_genome,
        "without a genome's prefix (GRCh38_): the matrix is of several species; take the genes of one",
        "",
    ),
    (str.strip, "without the blanks around them: remove those from the matrix", ""),
)


class Cause(NamedTuple):
    """A cause: how many of the missing names it explains, in words, and the option that helps, where there is one."""

    explains: int
    words: str
    advice: str = ""


def likeliest_cause(
    missing: Sequence[str], genes: Sequence[str], symbols: Sequence[str] | None, asked: set[str], file: Path | None
) -> Cause:
    """The surest cause that explains half of what could be missing, else the one that explains most.

    Parameters
    ----------
    missing
        Distinct names that no gene of the matrix bears.
    genes, symbols
        Of the matrix.
    asked
        The names of the list, the missing ones included.
    file
        Where they come from, to look at its other columns; absent: it has none.
    """
    if not missing:
        return Cause(0, "a name of several genes is left out, since the choice is yours: name those genes by id")
    known = {*genes, *(symbols or ())} - {""}
    causes = [
        _transposed(missing, genes),
        *(_spelled(missing, known, *spelling) for spelling in SPELLINGS),
        _other_columns(known - asked, file),
        _excel(missing),
        _kinds(missing, genes, symbols),
        _species(missing, genes, symbols),
        _small(missing, genes, len(asked)),
    ]
    likely = [cause for cause in causes if cause.explains]
    sure = [cause for cause in likely if 2 * cause.explains >= min(len(missing), len(genes))]
    return (sure or sorted(likely, key=lambda cause: -cause.explains) or [Cause(1, OTHERWISE)])[0]


NOTHING = Cause(0, "")


def _transposed(missing: Sequence[str], genes: Sequence[str]) -> Cause:
    cells, barcodes = looks_like_barcodes(genes), looks_like_barcodes(missing)
    if cells and not barcodes:
        return Cause(
            len(missing), "the genes of the matrix look like cells: is it transposed? ingest it with --orientation"
        )
    if barcodes and not cells:
        return Cause(len(missing), "the names look like cells, not like genes: is it another file, or another column?")
    return NOTHING


def _spelled(
    missing: Sequence[str], known: Iterable[str], spell: Callable[[str], str], words: str, advice: str
) -> Cause:
    spelled = {spell(name) for name in known}
    found = sum(spell(name) in spelled for name in missing)
    return Cause(found, f"{found:,} of them match {words}", advice)


def _other_columns(known: set[str], file: Path | None) -> Cause:
    """A list without a header is read from its first columns, which may be the wrong ones.

    Parameters
    ----------
    known
        Names of the matrix that are not in the columns that were read.
    """
    if file is None:
        return NOTHING
    table = read_rows(file)
    found = [sum(name in known for name in set(table[column])) for column in table]
    good = [i for i, column in enumerate(table) if 2 * found[i] > len(set(table[column]))]
    if not good:
        return NOTHING
    named = " and ".join(str(i + 1) for i in good)
    return Cause(
        max(found[i] for i in good),
        f"column {named} of the file does name genes of the matrix: put it first, or give the columns a header such as "
        "gene, or gene_a and gene_b",
    )


def _excel(missing: Sequence[str]) -> Cause:
    wrong = mangled(missing)
    return Cause(
        len(wrong),
        f"{len(wrong):,} of them were made into dates or numbers by a spreadsheet ({in_words(wrong, EXAMPLES)}): "
        "take the list from where it was made",
    )


def _kinds(missing: Sequence[str], genes: Sequence[str], symbols: Sequence[str] | None) -> Cause:
    asked, own = describe_names(missing).kind, describe_names(genes).kind
    known = {own, "symbol"} if symbols is not None else {own}
    if asked in known or {asked, own} & {"other", "mixed"}:
        return NOTHING
    cure = ' (or add the symbols to the matrix as var["symbol"])' if asked == "symbol" else ""
    words = f"the names are {WORDS[asked]} while the matrix has {WORDS[own]}"
    return Cause(len(missing), words, f": translate them with --gene-map FILE{cure}")


def _species(missing: Sequence[str], genes: Sequence[str], symbols: Sequence[str] | None) -> Cause:
    asked, own = guess_species(missing), guess_species(genes)
    own = guess_species(symbols) if own.name is None and symbols is not None else own
    if asked.name is None or own.name is None or asked.name == own.name:
        return NOTHING
    words = f"the names look like {asked.name} ({asked.reason}) and the matrix like {own.name} ({own.reason})"
    return Cause(len(missing), words, ": give a list of the same species, or translate it with --gene-map FILE")


def _small(missing: Sequence[str], genes: Sequence[str], asked: int) -> Cause:
    """A list may be longer than the matrix, but then some of it matches."""
    if len(genes) >= asked or len(missing) == asked:
        return NOTHING
    return Cause(len(missing), f"the matrix has only {len(genes):,} genes, fewer than the {asked:,} names of the list")
