"""Matrix Market folders: matrix.mtx with its barcodes.tsv and features.tsv or genes.tsv, plain or gzipped.

Cell Ranger, STARsolo and most others write genes × cells; kallisto, alevin and Parse write cells × genes, under names
of their own. The lengths of the lists tell.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import IO

import numpy as np
import pandas as pd

from pairscape.pipeline.errors import InputError, first_line
from pairscape.pipeline.matrix.formats.name_lists import NameList, cells_of, features_of, read_list
from pairscape.pipeline.matrix.formats.tenx import only_genome
from pairscape.pipeline.matrix.formats.text import text_of
from pairscape.pipeline.matrix.source import PART, Axis, Entries, Lines, Stored
from pairscape.pipeline.storage.paths import beside, fingerprint, inside, is_folder, listed, name_of

ENDS = (".mtx", ".mtx.gz")
MATRIX = ("matrix.mtx", "count_matrix.mtx", "DGE.mtx", "quants_mat.mtx")  # Cell Ranger and STARsolo, Parse, alevin
FEATURES = ("features.tsv", "genes.tsv", "genes.txt", "features.txt", "all_genes.csv", "genes.csv", "cols.txt")
BARCODES = ("barcodes.tsv", "barcodes.txt", "cells.tsv", "cell_metadata.csv", "barcodes.csv", "rows.txt")
LISTS = ((FEATURES, "genes"), (BARCODES, "cells"))


@dataclass(frozen=True)
class Coordinates:
    """The entries of a Matrix Market file: a row, a column and a value each, in any order.

    Attributes
    ----------
    place
        Path or URL.
    stored_shape
        Rows and columns of the file.
    weight
        Entries, as the file announces them.
    pattern
        Whether the entries have no values, and mean 1.
    turned
        Whether rows and columns are taken for each other.
    """

    place: str
    stored_shape: tuple[int, int]
    weight: int
    pattern: bool
    turned: bool = False

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.stored_shape[::-1] if self.turned else self.stored_shape

    def lines(self, axis: Axis) -> Lines | None:
        """None of either axis: text is read from its beginning."""
        return None

    def parts(self) -> Iterator[Entries]:
        """Some millions of entries at a time; what the file names twice is given twice, to be summed."""
        done = 0
        with text_of(self.place) as text:
            _skip_to_size(text)
            for frame in self._frames(text):
                yield self._part(frame, done)
                done += len(frame)
        if done != self.weight:
            raise InputError(
                f"{self.place} announces {self.weight} entries and has {done}: it is cut off or damaged; fetch it again"
            )

    def _frames(self, text: IO[str]) -> Iterator[pd.DataFrame]:
        names = ["row", "column"] if self.pattern else ["row", "column", "value"]
        kinds = {"row": np.int64, "column": np.int64, "value": np.float32}
        if not self.weight:
            return
        try:
            yield from pd.read_csv(
                text, sep=r"\s+", header=None, names=names, dtype={n: kinds[n] for n in names}, chunksize=PART,
                keep_default_na=False, index_col=False,
            )  # fmt: skip
        except pd.errors.EmptyDataError:
            return
        except (ValueError, pd.errors.ParserWarning) as e:
            raise InputError(
                f"{self.place}: an entry is not a row, a column and a number ({first_line(e)}): it is cut off or "
                "damaged; fetch it again"
            ) from e

    def _part(self, frame: pd.DataFrame, done: int) -> Entries:
        rows, columns = frame["row"].to_numpy() - 1, frame["column"].to_numpy() - 1
        n_rows, n_columns = self.stored_shape
        outside = (rows < 0) | (rows >= n_rows) | (columns < 0) | (columns >= n_columns)
        if outside.any():
            at = int(outside.argmax())
            raise InputError(
                f"{self.place}: entry {done + at + 1} lies in row {rows[at] + 1}, column {columns[at] + 1} of a matrix "
                f"of {n_rows} × {n_columns}: it is damaged; fetch it again"
            )
        values = np.ones(len(frame), np.float32) if self.pattern else frame["value"].to_numpy()
        kept = values != 0
        places = (columns[kept], rows[kept]) if self.turned else (rows[kept], columns[kept])
        return Entries(*places, values[kept], len(frame))


def open_mtx(place: str, key: str | None) -> Stored:
    """A folder, or the .mtx file in one with several, whose lists then begin with the same words.

    Parameters
    ----------
    key
        The genome whose genes are taken; absent: all.

    Raises
    ------
    InputError
        A file is missing, is none of its kind, or does not fit the others.
    """
    matrix, notes = _matrix_of(place)
    features, barcodes = (read_list(_list_of(matrix, names, what)) for names, what in LISTS)
    numbers = _opened(matrix)
    _refuse_usa(features, numbers, matrix)
    by_genes = _fit(numbers.shape, features, barcodes)
    if not by_genes and not _fit(numbers.shape, barcodes, features):
        raise InputError(_misfit(numbers, features, barcodes))
    n_genes, n_cells = numbers.shape if by_genes else numbers.shape[::-1]
    notes += (*features.notes(n_genes), *barcodes.notes(n_cells))
    obs, genes = cells_of(barcodes.named(n_cells)), features_of(features.named(n_genes))
    stamp = "".join(fingerprint(f) for f in (matrix, features.place, barcodes.place))
    kept = only_genome(genes, numbers if by_genes else replace(numbers, turned=True), key, matrix)
    notes += kept.notes
    if not by_genes and kept.matrix.shape[0] == n_genes:  # nothing is left out, so it stays as it lies
        return Stored(place, obs, kept.var, numbers, None, "cells-by-genes", "format", stamp, notes)
    return Stored(place, kept.var, obs, kept.matrix, None, "genes-by-cells", "format", stamp, notes)


def _fit(shape: tuple[int, int], rows: NameList, columns: NameList) -> bool:
    return rows.fits(shape[0]) and columns.fits(shape[1])


def _misfit(numbers: Coordinates, features: NameList, barcodes: NameList) -> str:
    rows, columns = numbers.shape
    message = (
        f"{numbers.place} has {rows} × {columns} entries, but {name_of(features.place)} names {len(features)} genes "
        f"and {name_of(barcodes.place)} {len(barcodes)} cells: are they of one matrix?"
    )
    if len(features) - 1 in numbers.shape or len(barcodes) - 1 in numbers.shape:
        message += " A list may have a header of one line: delete it"
    return message


def _refuse_usa(features: NameList, numbers: Coordinates, matrix: str) -> None:
    """Refuse alevin-fry's counts of spliced, unspliced and ambiguous molecules, which stand beside each other."""
    names = features.rows[0]
    thirds = len(names) // 3 if len(names) % 3 == 0 else 0
    marked = thirds > 0 and int(names.str.endswith("-U").sum()) == int(names.str.endswith("-A").sum()) == thirds
    if marked or (name_of(matrix).startswith("quants_mat") and 3 * len(names) in numbers.shape):
        raise InputError(
            f"{matrix} is of alevin-fry's USA mode: each gene has three columns, spliced, unspliced (-U) and ambiguous "
            "(-A); add them up with pyroe: load_fry(FOLDER, output_format='scRNA').write_h5ad('m.h5ad'), and give that"
        )


def holds_mtx(folder: str) -> bool:
    """Whether there is a Matrix Market file in the folder."""
    return any(name.endswith(ENDS) for name in listed(folder))


def _matrix_of(place: str) -> tuple[str, tuple[str, ...]]:
    """The .mtx file, and what else lies there."""
    if not is_folder(place):
        return place, ()
    there = [name for name in listed(place) if name.endswith(ENDS)]
    found = [name for name in there if name.removesuffix(".gz") in MATRIX] or there
    if len(found) != 1:
        what = f"several ({', '.join(found[:3])}): give the path of one" if found else "none: is it the right folder?"
        raise InputError(f"{place} should hold one matrix.mtx or matrix.mtx.gz, and holds {what}")
    others = [name for name in there if name != found[0]]
    note = (f"of the matrices there, {found[0]} is taken, and not {', '.join(others[:3])}",) if others else ()
    return inside(place, found[0]), note


def _list_of(matrix: str, names: tuple[str, ...], what: str) -> str:
    """The list beside a matrix: features.tsv.gz, or GSM1_features.tsv.gz beside GSM1_matrix.mtx.gz."""
    own = name_of(matrix).removesuffix(".gz").removesuffix(".mtx")
    stem = own.removesuffix("matrix")
    there = listed(beside(matrix, ""))
    wanted = [
        f"{start}{name}{end}" for start in (stem, f"{own}.", f"{own}_", "") for name in names for end in ("", ".gz")
    ]
    found = next((name for name in wanted if name in there), None)
    if found is None:
        raise InputError(
            f"{matrix} has no list of its {what} beside it: expected {' or '.join(_expected(own, stem, names))}, plain "
            f"or .gz, and there is {', '.join(_others(there, matrix)) or 'nothing else'}; copy it there, or rename it"
        )
    return beside(matrix, found)


def _others(there: list[str], matrix: str) -> list[str]:
    return [name for name in there if name != name_of(matrix) and not name.startswith(".")][:4]


def _expected(own: str, stem: str, names: tuple[str, ...]) -> list[str]:
    """The two likeliest names of a list, by the maker that names a matrix so."""
    if own == "quants_mat":
        return [f"quants_mat_{next(name for name in names if name in ('rows.txt', 'cols.txt'))}"]
    if own in ("count_matrix", "DGE"):
        return [next(name for name in names if name.endswith(".csv"))]
    return [f"{stem if own.endswith('matrix') else ''}{name}" for name in names[:2]]


def _opened(matrix: str) -> Coordinates:
    with text_of(matrix) as text:
        banner = text.readline().lower().split()
        form = banner[1:] if banner[:1] == ["%%matrixmarket"] else []
        if form[:2] != ["matrix", "coordinate"] or form[2:] not in (
            [kind, "general"] for kind in ("integer", "real", "pattern", "unsigned-integer")
        ):
            said = " ".join(banner[:5]) or "nothing"
            raise InputError(
                f"{matrix} begins with {said[:60]!r}: expected '%%MatrixMarket matrix coordinate integer general', or "
                "real; write it with scipy.io.mmwrite, from a sparse matrix"
            )
        sizes = _skip_to_size(text).split()
    if len(sizes) != 3 or not all(size.isdecimal() for size in sizes):
        raise InputError(f"{matrix} has no line with its rows, columns and entries: it is cut off; fetch it again")
    rows, columns, entries = map(int, sizes)
    return Coordinates(matrix, (rows, columns), entries, form[2] == "pattern")


def _skip_to_size(text: IO[str]) -> str:
    """The first line that is no comment."""
    return next((line for line in text if line.strip() and not line.startswith("%")), "")
