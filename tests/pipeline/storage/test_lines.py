"""A line without an end takes no memory, whatever the file is, and a message never holds it."""

import gzip
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pairscape.pipeline.compute.progress import Silent
from pairscape.pipeline.errors import InputError
from pairscape.pipeline.genes.lists import read_gene_map, read_genes, read_network, read_pairs
from pairscape.pipeline.matrix.open import open_source
from pairscape.pipeline.storage import lines
from pairscape.pipeline.storage.lines import BoundedLines, bounded_text

LONG = 200_000  # bytes of the line; the limit is set to half of it


@pytest.fixture(autouse=True)
def limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BoundedLines.__init__, "__defaults__", (LONG // 2,))
    monkeypatch.setattr(bounded_text, "__defaults__", (LONG // 2,))
    monkeypatch.setattr("pairscape.pipeline.genes.lists.LONGEST_LIST_LINE", LONG // 2)


class Endless(io.RawIOBase):
    """A stream of one line; `given` is how much of it was asked for."""

    given = 0

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        self.given += size
        return b"9" * size


@pytest.mark.parametrize("read", [lambda t: t.readline(), lambda t: t.readlines(10), lambda t: t.read(10**9), list])
def test_reading_stops_at_the_limit(read: Callable[[Any], Any]) -> None:
    stream = Endless()
    with pytest.raises(InputError, match="line 1 is longer than"):
        read(bounded_text(stream, "endless.csv"))  # type: ignore[arg-type]
    assert stream.given < LONG


def matrix(folder: Path, **contents: bytes) -> Path:
    for name, content in ({"matrix.mtx": MTX, "genes.tsv": b"A\nB\n", "barcodes.tsv": b"x\ny\n"} | contents).items():
        (folder / name).write_bytes(content)
    return folder


MTX = b"%%MatrixMarket matrix coordinate integer general\n2 2 1\n1 1 5\n"
NINES, NAME = b"9" * LONG, b"G" * LONG
MATRICES: dict[str, Callable[[Path], Path]] = {
    "csv, numbers": lambda d: file(d / "m.csv", b"gene,c1,c2\nA,1,2\nB," + NINES),
    "csv.gz, numbers": lambda d: file(d / "m.csv.gz", b"gene,c1,c2\nA,1,2\n" + NINES),
    "csv, header": lambda d: file(d / "m.csv", NAME + b",c1\nA,1\n"),
    "csv, nothing but the line": lambda d: file(d / "m.csv", NINES),
    "tsv, a name": lambda d: file(d / "m.tsv", b"gene\tc1\tc2\nA\t1\t2\n" + NAME + b"\t1\t2\n"),
    "txt.gz, a comment": lambda d: file(d / "m.txt.gz", b"# " + NAME + b"\ngene c1\n"),
    "mtx, banner": lambda d: matrix(d, **{"matrix.mtx": b"%%MatrixMarket " + NAME}),
    "mtx, comment": lambda d: matrix(d, **{"matrix.mtx": MTX.replace(b"\n2 2", b"\n%" + NAME + b"\n2 2")}),
    "mtx, size": lambda d: matrix(d, **{"matrix.mtx": MTX.replace(b"2 2 1", NINES)}),
    "mtx, entry": lambda d: matrix(d, **{"matrix.mtx": MTX.replace(b"1 1 5", b"1 1 " + NINES)}),
    "mtx, list of genes": lambda d: matrix(d, **{"genes.tsv": NAME}),
    "mtx, list of cells": lambda d: matrix(d, **{"barcodes.tsv": b"x\n" + NAME}),
}


def file(path: Path, content: bytes) -> Path:
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


@pytest.mark.parametrize("name", MATRICES)
def test_an_endless_line_of_a_matrix(name: str, tmp_path: Path) -> None:
    path = MATRICES[name](tmp_path)
    with pytest.raises(InputError, match="is longer than") as refused:
        open_source(path, scratch=tmp_path / "scratch", progress=Silent()).values.rows(0, 2)
    assert len(str(refused.value)) < 1000


@pytest.mark.parametrize("read", [read_genes, read_pairs, read_network, read_gene_map])
@pytest.mark.parametrize("name", ["list.txt", "list.txt.gz"])
@pytest.mark.parametrize("before", [b"", b"A,B\n", b"# "])
def test_an_endless_line_of_a_list(read: Callable[[Path], Any], name: str, before: bytes, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is longer than") as refused:
        read(file(tmp_path / name, before + NAME))
    assert len(str(refused.value)) < 1000


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_many_lines_are_as_they_are(end: str) -> None:
    content = "".join(f"{'x' * 9000}{end}" for _ in range(40))
    stream = io.BytesIO(content.encode())
    assert bounded_text(stream, "m.csv").read() == content.replace(end, "\n")
    assert BoundedLines(io.BytesIO(content.encode()), "m.csv").read() == content.encode()
    assert lines.LONGEST_LIST_LINE < lines.LONGEST_LINE
