"""Text files as others write them: gzipped or not, with or without a byte-order mark, any end of line."""

import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, BinaryIO, cast

from pairscape.pipeline.errors import InputError
from pairscape.pipeline.storage.places import binary, name_of

BLOCK = 2**24  # characters that are held at a time
GZIP_MAGIC = b"\x1f\x8b"
FOREIGN = {
    b"\x89HDF": "an HDF5 file: rename it to .h5 or .h5ad",
    b"PK\x03\x04": "an Excel or zip file: save the table as .csv, or unpack it",
    b"BZh": "bzip2-compressed: unpack it, or compress it with gzip",
    b"\xfd7zX": "xz-compressed: unpack it, or compress it with gzip",
    b"PAR1": "a Parquet file: write it as .csv or .h5ad",
}


@contextmanager
def text_of(place: str) -> Iterator[IO[str]]:
    r"""The text of a file, lines ending in \n.

    Raises
    ------
    InputError
        It is of another kind or compression than its name says, damaged, empty or not UTF-8.
    """
    try:
        with binary(place) as raw:
            zipped = _check_magic(place, raw)
            with gzip.open(raw) if zipped else raw as stream:
                yield io.TextIOWrapper(cast(IO[bytes], stream), encoding="utf-8-sig")
    except (EOFError, gzip.BadGzipFile, zlib.error) as e:
        raise InputError(f"{place} is a damaged gzip file ({e}): fetch or copy it again") from e
    except UnicodeDecodeError as e:
        raise InputError(f"{place} is not UTF-8 text ({e.reason}): save it as UTF-8, or give .h5ad or .zarr") from e


def blocks_of(text: IO[str]) -> Iterator[list[str]]:
    r"""The lines that are not empty, without \n, some millions of characters at a time."""
    while lines := text.readlines(BLOCK):
        yield [line for line in (line.rstrip("\n") for line in lines) if line]


def _check_magic(place: str, raw: BinaryIO) -> bool:
    """Whether the file is gzipped, as its name says."""
    start = raw.read(4)
    raw.seek(0)
    foreign = next((what for magic, what in FOREIGN.items() if start.startswith(magic)), None)
    if foreign is not None:
        raise InputError(f"{place} is {foreign}")
    zipped, name = start.startswith(GZIP_MAGIC), name_of(place)
    if not start:
        raise InputError(f"{place} is empty: there is nothing to read; was the file written to its end?")
    if zipped != name.endswith(".gz"):
        truth, name = ("gzip", f"{name}.gz") if zipped else ("not gzip", name.removesuffix(".gz"))
        raise InputError(f"{place} is {truth}-compressed, whatever its name says: rename it to {name}")
    return zipped
