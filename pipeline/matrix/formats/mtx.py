"""Matrix Market folders: matrix.mtx with its barcodes.tsv and features.tsv or genes.tsv, plain or gzipped.

Cell Ranger and most others write genes × cells; kallisto writes cells × genes. The lengths of the lists tell.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

import numpy as np
import pandas as pd

from pairscape.pipeline.errors import InputError, first_line
from pairscape.pipeline.matrix.formats.tenx import Features, only_genes
from pairscape.pipeline.matrix.formats.text import text_of
from pairscape.pipeline.matrix.source import PART, Axis, Lines, Part, Stored
from pairscape.pipeline.storage.paths import beside, fingerprint, inside, is_folder, listed, name_of

MATRIX = ("matrix.mtx", "matrix.mtx.gz")
FEATURES = ("features.tsv", "genes.tsv", "genes.txt")
BARCODES = ("barcodes.tsv", "barcodes.txt")


@dataclass(frozen=True)
class Coordinates:
    """The entries of a Matrix Market file: a row, a column and a value each, in any order.

    Attributes
    ----------
    place
        Path or URL.
    shape
        Rows and columns.
    weight
        Entries, as the file announces them.
    pattern
        Whether the entries have no values, and mean 1.
    """

    place: str
    shape: tuple[int, int]
    weight: int
    pattern: bool

    def lines(self, axis: Axis) -> Lines | None:
        """None of either axis: text is read from its beginning."""
        return None

    def parts(self) -> Iterator[Part]:
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

    def _part(self, frame: pd.DataFrame, done: int) -> Part:
        rows, columns = frame["row"].to_numpy() - 1, frame["column"].to_numpy() - 1
        outside = (rows < 0) | (rows >= self.shape[0]) | (columns < 0) | (columns >= self.shape[1])
        if outside.any():
            at = int(outside.argmax())
            raise InputError(
                f"{self.place}: entry {done + at + 1} lies in row {rows[at] + 1}, column {columns[at] + 1} of a matrix "
                f"of {self.shape[0]} × {self.shape[1]}: it is damaged; fetch it again"
            )
        values = np.ones(len(frame), np.float32) if self.pattern else frame["value"].to_numpy()
        kept = values != 0
        return Part(rows[kept], columns[kept], values[kept], len(frame))


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
    matrix = _matrix_of(place)
    features, barcodes = _list_of(matrix, FEATURES, "genes"), _list_of(matrix, BARCODES, "cells")
    numbers, genes, cells = _opened(matrix), _read_list(features), _read_list(barcodes)
    by_genes = numbers.shape == (len(genes), len(cells))
    if not by_genes and numbers.shape != (len(cells), len(genes)):
        raise InputError(
            f"{matrix} has {numbers.shape[0]} × {numbers.shape[1]} entries, but {name_of(features)} names {len(genes)} "
            f"genes and {name_of(barcodes)} {len(cells)} cells: are they of one matrix?"
        )
    obs = pd.DataFrame(index=pd.Index(cells[0].to_numpy(), dtype=object))
    stamp = "".join(fingerprint(f) for f in (matrix, features, barcodes))
    if not by_genes:
        return Stored(place, obs, _var(genes), numbers, None, "cells-by-genes", "format", stamp)
    kept = only_genes(_features(genes), numbers, key, matrix)
    return Stored(place, kept.var, obs, kept.matrix, None, "genes-by-cells", "format", stamp, kept.notes)


def holds_mtx(folder: str) -> bool:
    """Whether there is a Matrix Market file in the folder."""
    return any(name.endswith((".mtx", ".mtx.gz")) for name in listed(folder))


def _matrix_of(place: str) -> str:
    if not is_folder(place):
        return place
    names = listed(place)
    found = [n for n in names if n in MATRIX] or [n for n in names if n.endswith((".mtx", ".mtx.gz"))]
    if len(found) != 1:
        what = f"several ({', '.join(found[:3])}): give the path of one" if found else "none: is it the right folder?"
        raise InputError(f"{place} should hold one matrix.mtx or matrix.mtx.gz, and holds {what}")
    return inside(place, found[0])


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
        looked = " or ".join(f"{stem}{name}" for name in names[:2])
        raise InputError(
            f"{matrix} has no list of its {what} beside it: expected {looked}, plain or .gz; copy it there"
        )
    return beside(matrix, found)


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


def _read_list(place: str) -> pd.DataFrame:
    """The columns of a list without header, as text."""
    with text_of(place) as text:
        try:
            return pd.read_csv(text, sep="\t", header=None, dtype=str, keep_default_na=False, quoting=3)
        except (pd.errors.ParserError, pd.errors.EmptyDataError) as e:
            raise InputError(f"{place} is no list of names ({first_line(e)}): fetch or write it again") from e


def _features(genes: pd.DataFrame) -> Features:
    columns = [list(genes[i]) for i in range(min(genes.shape[1], 3))]
    return Features(columns[0], *columns[1:3])


def _var(genes: pd.DataFrame) -> pd.DataFrame:
    return _features(genes).frame()
