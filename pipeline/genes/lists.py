"""Gene lists, pair lists and networks as users keep them: CSV, TSV, semicolons or blanks, with or without header. Pure.

What the columns mean is decided here and nowhere else:

| a table with | is read as |
|---|---|
| a header that names both ends (`Gene1,Gene2,Type`, `source,target,weight`, `TF,target,importance`) | those columns |
| OmniPath's `source_genesymbol`, `target_genesymbol` beside `source`, `target` (UniProt) | the symbols |
| no header | the first two columns |
| no header, pairs | a third column is the label: CNNC's `a b label` |
| no header, a network | further columns (a weight; TRRUST's mode and PMID) are left aside |

A first row is a header if it names both ends. `TF` alone makes none: it is also the symbol of transferrin.
"""

import csv
import gzip
import io
import re
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, cast

import numpy as np
from numpy.typing import NDArray

from pairscape.pipeline.errors import InputError
from pairscape.pipeline.genes.kinds import KINDS, OF_PLANTED
from pairscape.pipeline.genes.names import counts_up, unquoted
from pairscape.pipeline.storage.lines import LONGEST_LIST_LINE, bounded_text
from pairscape.pipeline.storage.plain_files import check_plain_file

if TYPE_CHECKING:
    import pandas as pd

# Column names in use, by tool: BEELINE, CNNC, SCENIC/arboreto, decoupler, OmniPath, our own predictions.
REGULATOR_NAMES = ("gene_a", "gene1", "genea", "tf", "source", "regulator", "source_genesymbol")
TARGET_NAMES = ("gene_b", "gene2", "geneb", "target", "target_genesymbol")
OPEN_TARGET_NAMES = ("gene",)  # a target only beside a regulator
GENE_NAMES = ("tf", "gene", "symbol", "gene_symbol", "gene_id", "regulator", "target", "name")
LABEL_NAMES = ("label", "class")
KIND_NAME = "kind"  # of dependence, as `plant` names it
GROUP_NAMES = ("complex", "group", "pathway", "term", "module", "set")  # what a pair belongs to
WEIGHT_NAMES = ("weight", "edgeweight")
RANKING_NAMES = ("importance", "edgeweight", "score", "weight", "confidence", "probability")  # the surest first
ROW_OF_GENES = (
    3  # names in a single row from which on it is a list laid on its side, not a gene and what is known of it
)
LABELS = (-1, 0, 1, 2)
ALSO_GENES = {"tf"}  # column names that are symbols of genes as well
KNOWN_NAMES = {*REGULATOR_NAMES, *TARGET_NAMES, *GENE_NAMES, *LABEL_NAMES}


@dataclass(frozen=True, eq=False)
class NamedPairs:
    """Pairs as a file names them.

    Attributes
    ----------
    gene_a, gene_b
        Names, in the file's order.
    label : (P,) int8 or None
        −1 unlabelled, 0 none, 1 a→b or undirected, 2 b→a; or a position in `KINDS`; None where the file has none.
    columns
        In words, which columns were taken.
    importance : (P,) float64 or None
        How much an edge of a ranking is worth; None where the file ranks nothing.
    ranked_by
        The column that says so.
    """

    gene_a: list[str]
    gene_b: list[str]
    label: NDArray[np.int8] | None
    columns: str
    importance: NDArray[np.float64] | None = None
    ranked_by: str = ""

    def best(self, top: int | None, threshold: float | None) -> "NamedPairs":
        """The edges of the highest importance, or those that reach a threshold, in the file's order."""
        assert self.importance is not None
        rows = np.arange(len(self.gene_a))
        if threshold is not None:
            rows = rows[self.importance >= threshold]
        elif top is not None:
            rows = np.sort(np.argsort(-self.importance, kind="stable")[:top])
        words = f"{self.columns}; {rows.size:,} of {len(self.gene_a):,} edges by {self.ranked_by!r}"
        gene_a, gene_b = ([names[row] for row in rows.tolist()] for names in (self.gene_a, self.gene_b))
        return NamedPairs(gene_a, gene_b, None, words, self.importance[rows], self.ranked_by)


@dataclass(frozen=True, eq=False)
class TextTable:
    """A text table, every value a string.

    Attributes
    ----------
    rows
        Its columns are lower-case names where the file has a header, else numbers.
    header
        Whether it has.
    """

    rows: "pd.DataFrame"
    header: bool

    def named(self, names: tuple[str, ...]) -> list[str]:
        """Its columns with one of these names, in the order of the names."""
        return [name for name in names if name in self.rows.columns] if self.header else []

    def words(self, *columns: str | int) -> str:
        """In words, which columns these are."""
        names = [repr(c) if isinstance(c, str) else str(c + 1) for c in columns]
        return f"column{'s' * (len(names) > 1)} {', '.join(names)}{'' if self.header else ' (no header)'}"


def _delimiter(line: str) -> str:
    if "\t" in line:
        return "\t"
    return next((sign for sign in line if sign in ",;"), r"\s+")  # after the first name, so 0,5 and "1;2" do not count


def _read(path: Path) -> "pd.DataFrame":
    """A small text table without blank rows and comments, every value a string; the first row is still a row."""
    import pandas as pd

    check_plain_file(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file; check the path.")
    try:
        lines = _lines(path)
        first = [line for line in lines if line.strip()][:2]
        if not first:
            raise InputError(f"{path} is empty: it should hold one gene or one pair a line.")
        if _has_row_names(first):  # R's write.table puts nothing above them
            lines[lines.index(first[0])] = _delimiter(first[1]).replace(r"\s+", "- ") + first[0]
        table = pd.read_csv(
            io.StringIO("".join(lines)),
            header=None,
            sep=_delimiter(next(line for line in lines if line.strip())),
            dtype=str,
            keep_default_na=False,
            quoting=csv.QUOTE_MINIMAL,
            engine="c",
        ).map(lambda cell: unquoted(str.strip(cell)))
    except PermissionError as error:
        raise InputError(f"{path} may not be read: ask its owner for permission, or copy it.") from error
    except (UnicodeDecodeError, EOFError, OSError, zlib.error, pd.errors.ParserError) as error:
        reason = str(error).strip().splitlines()[-1]
        raise InputError(
            f"{path} cannot be read as a text table ({reason}); give CSV, TSV or one name a line."
        ) from error
    return _without_row_numbers(table[(table != "").any(axis=1)])  # a line of blanks is no row


def _lines(path: Path) -> list[str]:
    """The lines of a file, plain or gzipped; comments are left blank, so that lines keep their numbers."""
    with path.open("rb") as raw, gzip.open(raw) if path.suffix == ".gz" else raw as stream:
        lines = list(bounded_text(cast(IO[bytes], stream), str(path), LONGEST_LIST_LINE))
    first = next((number for number, line in enumerate(lines) if line.strip()), 0)
    return [
        line if not line.startswith("#") else line[1:].lstrip() if number == first and _is_header(line[1:]) else "\n"
        for number, line in enumerate(lines)
    ]


def _is_header(line: str) -> bool:
    """Whether a comment names columns and says nothing else, as in #TF,target."""
    fields = {field.strip().lower() for field in re.split(_delimiter(line), line.strip())}
    return fields <= {*KNOWN_NAMES, *WEIGHT_NAMES, *RANKING_NAMES, *OPEN_TARGET_NAMES}


def _has_row_names(first: list[str]) -> bool:
    """Whether the line below a header has one field more, and the first of them is the row's number."""
    if len(first) < 2:
        return False
    above, below = (len(re.split(_delimiter(first[1]), line.strip())) for line in first)
    return below == above + 1 and unquoted(re.split(_delimiter(first[1]), first[1].strip())[0]) == "1"


def _without_row_numbers(table: "pd.DataFrame") -> "pd.DataFrame":
    """The same without a first column that only counts the rows, below a field that names nothing (R, pandas)."""
    nameless = table.shape[1] > 1 and table.iloc[0, 0] in ("", "-", "V0", "Unnamed: 0")
    if not nameless or not counts_up(list(table.iloc[1:, 0])):
        return table
    rest = table.iloc[:, 1:].set_axis(range(table.shape[1] - 1), axis=1)
    known = KNOWN_NAMES & {name.lower() for name in rest.iloc[0]}
    return rest if known else rest.iloc[1:].reset_index(drop=True)  # a header, as row numbers stand beside no names


def _with_header(table: "pd.DataFrame", first: list[str], path: Path) -> TextTable:
    """The first row made the header."""
    if twice := [name for name in first if name in KNOWN_NAMES and first.count(name) > 1]:
        raise InputError(f"{path} has {twice[0]!r} twice in its header, and which is meant cannot be told; rename one.")
    return TextTable(table.iloc[1:].set_axis(first, axis=1), header=True)


def read_genes(path: Path) -> list[str]:
    """Gene names of a file: one a line, or a table with a column such as `TF` or `gene` (BEELINE's TF files).

    Raises
    ------
    InputError
        No such file, not text, empty, a row longer than the first, a header with one name twice, a table whose gene
        column cannot be told, or all names in one row.
    """
    table = _read(path)
    first = [name.lower() for name in table.iloc[0]]
    if not KNOWN_NAMES.intersection(first):
        if len(table) == 1 and len(first) >= ROW_OF_GENES:
            raise InputError(f"{path} has one row of {len(first)} names ({first[0]}, …): give one gene a line.")
        return list(dict.fromkeys(name for name in table[0] if name))
    found = _with_header(table, first, path)
    named = found.named(GENE_NAMES)
    if not named:
        raise InputError(f"{path} has columns {first}, none known to hold genes; name one 'gene' or 'TF'.")
    return list(dict.fromkeys(name for name in found.rows[named[0]] if name))


def _read_ends(path: Path) -> tuple[TextTable, str | int, str | int]:
    """A table of pairs, and the columns that hold their ends."""
    table = _read(path)
    first = [name.lower() for name in table.iloc[0]]
    ends = _end_columns(first, path)
    if ends is not None:
        return _with_header(table, first, path), *ends
    known = sorted(KNOWN_NAMES.difference(ALSO_GENES).intersection(first))
    if known or table.shape[1] < 2:
        raise InputError(
            f"{path} has columns {first if known else list(table.iloc[0])}: two with genes are needed, such as "
            "gene_a,gene_b or source,target."
        )
    return TextTable(table, header=False), 0, 1


def _end_columns(first: list[str], path: Path) -> tuple[str, str] | None:
    """The columns of a header that hold regulator and target; None if it is no header of pairs."""
    sides = [[name for name in dict.fromkeys(first) if name in names] for names in (REGULATOR_NAMES, TARGET_NAMES)]
    if sides[0] and not sides[1]:
        sides[1] = [name for name in OPEN_TARGET_NAMES if name in first]
    if not all(sides):
        return None
    symbols = "source_genesymbol", "target_genesymbol"  # OmniPath: `source` and `target` beside them are proteins
    if all(name in first for name in symbols):
        return symbols
    for side in sides:
        if len(side) > 1:
            raise InputError(
                f"{path} has the columns {' and '.join(map(repr, side))}, and which holds the gene cannot be told; "
                "drop or rename one."
            )
    return sides[0][0], sides[1][0]


def _names(table: TextTable, ends: tuple[str | int, str | int], path: Path) -> tuple[list[str], list[str]]:
    """Both ends of a list of pairs, every cell a name."""
    gene_a, gene_b = (table.rows[end] for end in ends)
    nameless = ((gene_a == "") | (gene_b == "")).to_numpy()
    if nameless.any():
        raise InputError(
            f"{path}: row {int(np.argmax(nameless)) + 1} names fewer than two genes; complete or drop that row."
        )
    return list(gene_a), list(gene_b)


def read_pairs(path: Path, kinds: bool = False) -> NamedPairs:
    """Pairs of a file: BEELINE, SCENIC or decoupler columns, CNNC's `a b label` triples, or two plain columns.

    A third column is a label where the header says `label`, and always where there is no header.

    Parameters
    ----------
    kinds
        The label of a pair is the position of its `kind` in `KINDS`; a row whose label is −1 stays unlabelled.

    Raises
    ------
    InputError
        The file cannot be read as a table; fewer than two columns, or several that could be meant; a row without two
        names; a label outside −1, 0, 1, 2; no pair at all. Of kinds: no such column, a kind that is none, a label that
        says otherwise.
    """
    table, *ends = _read_ends(path)
    if table.rows.empty:
        raise InputError(f"{path} lists no pair below its header; one pair a line is needed.")
    if kinds and not table.named((KIND_NAME,)):
        raise InputError(
            f"{path} has no column {KIND_NAME!r}, and --classes kinds takes the labels from it; name the kinds there "
            f"({', '.join(KINDS)}), or leave the option out."
        )
    label_column = _label_column(table)
    gene_a, gene_b = _names(table, (ends[0], ends[1]), path)
    labels = None if label_column is None else _labels(table.rows[label_column], path)
    if kinds:
        return NamedPairs(gene_a, gene_b, _kinds(table, labels, path), table.words(*ends, KIND_NAME))
    taken = [*ends] if label_column is None else [*ends, label_column]
    return NamedPairs(gene_a, gene_b, labels, table.words(*taken))


def read_grouped_pairs(path: Path) -> tuple[NamedPairs, list[str] | None]:
    """Pairs of a gold list, and what each belongs to: a complex, a pathway; None where the file does not say.

    That is a column with one of the names `GROUP_NAMES`; without a header the third column. A label needs a header.

    Raises
    ------
    InputError
        As `read_pairs`.
    """
    table, *ends = _read_ends(path)
    if table.rows.empty:
        raise InputError(f"{path} lists no pair below its header; one pair a line is needed.")
    label = next(iter(table.named(LABEL_NAMES)), None)
    unnamed = 2 if not table.header and table.rows.shape[1] > 2 else None
    group = next(iter(table.named(GROUP_NAMES)), unnamed)
    gene_a, gene_b = _names(table, (ends[0], ends[1]), path)
    labels = None if label is None else _labels(table.rows[label], path)
    taken = [column for column in (*ends, group, label) if column is not None]
    return NamedPairs(gene_a, gene_b, labels, table.words(*taken)), None if group is None else list(table.rows[group])


def _kinds(table: TextTable, label: NDArray[np.int8] | None, path: Path) -> NDArray[np.int8]:
    """Position in `KINDS` of each row's kind."""
    number = {name: KINDS.index(OF_PLANTED.get(name, name)) for name in (*KINDS, *OF_PLANTED)}
    said = table.rows[KIND_NAME].str.lower()
    kind = said.map(number).fillna(-1).to_numpy(np.int8)
    if (kind < 0).any():
        row = int(np.argmax(kind < 0))
        raise InputError(
            f"{path}: kind {said.iloc[row]!r} in row {row + 1} is none of {', '.join(number)}; correct or drop it."
        )
    if label is None:
        return kind
    wrong = (label >= 0) & ((label > 0) != (kind > 0))
    if wrong.any():
        row = int(np.argmax(wrong))
        raise InputError(
            f"{path}: row {row + 1} has label {label[row]} and kind {said.iloc[row]!r}, and they contradict each "
            "other; correct one, or drop the column of labels."
        )
    return np.where(label < 0, np.int8(-1), kind)


def _label_column(table: TextTable) -> str | int | None:
    if table.header:
        return next(iter(table.named(LABEL_NAMES)), None)
    return 2 if table.rows.shape[1] > 2 else None


def _numbers(column: "pd.Series") -> NDArray[np.float64]:
    """A column as numbers, NaN where a cell is none."""
    import pandas as pd

    return np.asarray(pd.to_numeric(column, errors="coerce"), np.float64)


def _labels(column: "pd.Series", path: Path) -> NDArray[np.int8]:
    numbers = _numbers(column)
    bad = ~np.isin(numbers, LABELS)
    if bad.any():
        value = column.to_numpy()[bad][0]
        raise InputError(
            f"{path}: label {value!r} in row {int(np.argmax(bad)) + 1} is none of -1 (unlabelled), 0 (none), 1 (a→b or "
            "undirected), 2 (b→a); correct it, drop the column for unlabelled pairs, or give a list of edges as "
            "--network."
        )
    return np.asarray(numbers, np.int8)


def read_network(path: Path) -> NamedPairs:
    """Edges regulator → target of a file: BEELINE, decoupler, OmniPath, TRRUST, or two plain columns.

    Scores, signs and modes are left aside; an edge whose `weight` is 0 is none.

    Raises
    ------
    InputError
        The file is no list of pairs; it holds labels, so that some of its rows are no edges; its first row looks like a
        header that names no known column.
    """
    table, *ends = _read_ends(path)
    _refuse_labels(table, path)
    _refuse_unknown_header(table, path)
    words = table.words(*ends)
    if weights := table.named(WEIGHT_NAMES):
        edge = _numbers(table.rows[weights[0]]) != 0
        words += f", {np.count_nonzero(~edge):,} of weight 0 left out" if not edge.all() else ""
        table = TextTable(table.rows[edge], header=True)
    if table.rows.empty:
        raise InputError(f"{path} holds no edges: two columns regulator, target are needed, one edge a line.")
    ranked = next(iter(table.named(RANKING_NAMES)), "")
    importance = _importance(table.rows[ranked]) if ranked else None
    gene_a, gene_b = _names(table, (ends[0], ends[1]), path)
    return NamedPairs(gene_a, gene_b, None, words, importance, "" if importance is None else ranked)


def _importance(column: "pd.Series") -> NDArray[np.float64] | None:
    """The numbers of a column, if they tell edges apart."""
    numbers = _numbers(column)
    return numbers if np.isfinite(numbers).all() and np.unique(np.abs(numbers)).size > 1 else None


def _refuse_labels(table: TextTable, path: Path) -> None:
    """Rows with label 0 are no edges, and in CNNC's triples those with label 2 are edges the other way round."""
    column = _label_column(table)
    if column is None:
        return
    values = set(table.rows[column])
    if values != {"1"} and "0" in values and values <= {"-1", "0", "1", "2"}:
        raise InputError(
            f"{path}: the third column holds only labels (0 none, 1 a→b, 2 b→a), so not every row is an edge; give the "
            "file as --pairs, or name its columns source,target,weight."
        )


def _refuse_unknown_header(table: TextTable, path: Path) -> None:
    """A word above a column of numbers is a heading."""
    if table.header or table.rows.shape[1] < 3:
        return
    first, *rest = _numbers(table.rows[2])
    if rest and np.isnan(first) and not np.isnan(rest).any():
        raise InputError(
            f"{path}: the first row {list(table.rows.iloc[0])} looks like a header and names no known columns; name "
            "them source,target or gene_a,gene_b, or delete that row."
        )


def read_gene_map(path: Path) -> list[tuple[str, str]]:
    """Names of the same genes in two vocabularies, one gene a row; a header does no harm.

    Raises
    ------
    InputError
        The file cannot be read as a table, or has not two columns.
    """
    table = _read(path)
    if table.shape[1] != 2:
        raise InputError(
            f"{path} has {table.shape[1]} columns: a map of genes has two, such as symbol and Entrez id, a gene a row."
        )
    return [(one, other) for one, other in zip(table[0], table[1], strict=True) if one and other]


def read_rows(path: Path) -> "pd.DataFrame":
    """Every row of a text table that is not blank, the first included, every value a string; columns are numbers.

    Raises
    ------
    InputError
        No such file, not text, empty, a row longer than the first.
    """
    return _read(path)
