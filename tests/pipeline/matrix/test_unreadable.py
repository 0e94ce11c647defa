"""What keeps a file from being read is named; damage is spoken of where a checksum or the form of the file shows it."""

import fcntl
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pytest
import zarr
from anndata.io import write_elem
from scipy import sparse

from pairscape.pipeline.errors import InputError
from pairscape.pipeline.matrix.expression import open_expression
from pairscape.pipeline.matrix.formats import sparse as sparse_format
from pairscape.pipeline.matrix.formats.unreadable import is_mistake_of_ours, unreadable
from typed import run_command

X = np.random.default_rng(0).poisson(2.0, (40, 30)).astype(np.float32) + 1
CELLS = [f"AACCGGTT{a}{b}{c}" for a in "ACGT" for b in "ACGT" for c in "ACG"][:40]


def cells() -> ad.AnnData:
    var = pd.DataFrame(index=[f"G{i}" for i in range(30)])
    return ad.AnnData(sparse.csr_matrix(X), obs=pd.DataFrame(index=CELLS), var=var)


def h5ad(path: Path, **options: Any) -> Path:
    cells().write_h5ad(path, **options)
    return path


def stored(path: Path, **codecs: Any) -> Path:
    root = zarr.open_group(str(path), mode="w", zarr_format=3)
    write_elem(root, "/", cells(), dataset_kwargs={"shards": None, **codecs})
    return path


def rewritten(path: Path, change: Callable[[bytes], bytes]) -> Path:
    path.write_bytes(change(path.read_bytes()))
    return path


def with_filter(path: Path, number: int) -> Path:
    """A file whose values went through gzip, marked as if another filter had made them."""
    name = b"\x01\x00\x08\x00\x01\x00\x01\x00deflate\x00"  # number 1, length of the name, flags, options
    content = h5ad(path, compression="gzip").read_bytes()
    assert content.count(name) > 0
    path.write_bytes(content.replace(name, number.to_bytes(2, "little") + name[2:]))
    return path


def left_open(path: Path) -> Path:
    """As a program leaves a file that dies while it writes in the newest form of HDF5."""
    with h5py.File(path, "w", libver="latest") as root:
        write_elem(root, "/", cells())
        root.swmr_mode = True
        root.flush()
        content = path.read_bytes()
    path.write_bytes(content)
    return path


def flipped(path: Path, at: float) -> Path:
    """One bit of a file turned."""
    return rewritten(
        path, lambda c: c[: int(at * len(c))] + bytes([c[int(at * len(c))] ^ 1]) + c[int(at * len(c)) + 1 :]
    )


def first_chunk(store: Path) -> Path:
    return next(file for file in sorted((store / "X/data").rglob("*")) if file.is_file() and file.name != "zarr.json")


def pcodec(path: Path) -> Path:
    stored(path)
    return rewrite_codec(path, '{"name":"numcodecs.pcodec","configuration":{}}')


def rewrite_codec(path: Path, codec: str) -> Path:
    import json

    file = path / "X/data/zarr.json"
    metadata = json.loads(file.read_text())
    metadata["codecs"] = [{"name": "bytes", "configuration": {"endian": "little"}}, json.loads(codec)]
    file.write_text(json.dumps(metadata))
    return path


DAMAGED: dict[str, Callable[[Path], Path]] = {
    "HDF5 that is cut": lambda d: rewritten(h5ad(d / "m.h5ad"), lambda c: c[: len(c) // 2]),
    "HDF5 that is cut near its end": lambda d: rewritten(h5ad(d / "m.h5ad"), lambda c: c[:-500]),
    "a web page": lambda d: rewritten(h5ad(d / "m.h5ad"), lambda c: b"<html>404 Not Found</html>"),
    "zeros": lambda d: rewritten(h5ad(d / "m.h5ad"), lambda c: bytes(len(c))),
    "a checksum of HDF5": lambda d: fletcher(d / "m.h5ad"),
    "gzip within HDF5": lambda d: spoilt_gzip(d / "m.h5ad"),
    "half a chunk of Zarr": lambda d: chunk(stored(d / "m.zarr"), lambda c: c[: len(c) // 2]),
    "garbage in a chunk of Zarr": lambda d: chunk(stored(d / "m.zarr"), lambda c: b"\xff" * len(c)),
    "a checksum of Zarr": lambda d: chunk(summed(d / "m.zarr"), lambda c: bytes([c[0] ^ 1]) + c[1:]),
    "metadata of Zarr that is cut": lambda d: metadata(stored(d / "m.zarr"), lambda c: c[: len(c) // 2]),
}


def chunk(store: Path, change: Callable[[bytes], bytes]) -> Path:
    rewritten(first_chunk(store), change)
    return store


def metadata(store: Path, change: Callable[[bytes], bytes]) -> Path:
    rewritten(store / "X/data/zarr.json", change)
    return store


def summed(path: Path) -> Path:
    from zarr.codecs import Crc32cCodec

    return stored(path, compressors=[Crc32cCodec()])


def fletcher(path: Path) -> Path:
    h5ad(path)
    with h5py.File(path, "r+") as root:
        values = root["X/data"][:]
        del root["X/data"]
        root["X"].create_dataset("data", data=values, chunks=(values.size,), fletcher32=True)
        at = root["X/data"].id.get_chunk_info(0).byte_offset
    return rewritten(path, lambda c: c[:at] + bytes([c[at] ^ 1]) + c[at + 1 :])


def spoilt_gzip(path: Path) -> Path:
    h5ad(path, compression="gzip")
    with h5py.File(path) as root:
        found = root["X/data"].id.get_chunk_info(0)
    at = found.byte_offset + found.size // 2
    return rewritten(path, lambda c: c[:at] + bytes(20) + c[at + 20 :])


@pytest.mark.parametrize("name", DAMAGED)
def test_damage_that_the_file_shows_is_called_so(name: str, tmp_path: Path) -> None:
    path = DAMAGED[name](tmp_path)
    with pytest.raises(InputError, match=r"cannot be read .*it is damaged or not what its name says") as refused:
        open_expression(path).rows(0, 40)
    assert len(str(refused.value).splitlines()) == 1


@contextmanager
def lock(path: Path) -> Iterator[None]:
    """As a notebook holds a file that it has opened with backed="r+"."""
    with path.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


ELSE: dict[str, tuple[Callable[[Path], Path], list[str]]] = {
    "zstd within HDF5": (lambda d: with_filter(d / "m.h5ad", 32015), ["Zstandard", "pip install hdf5plugin"]),
    "blosc within HDF5": (lambda d: with_filter(d / "m.h5ad", 32001), ["Blosc", "pip install hdf5plugin"]),
    "bzip2 within HDF5": (lambda d: with_filter(d / "m.h5ad", 307), ["bzip2", "pip install hdf5plugin"]),
    "a filter of nobody": (lambda d: with_filter(d / "m.h5ad", 32999), ["number 32999", "pip install hdf5plugin"]),
    "left open by a program that died": (lambda d: left_open(d / "m.h5ad"), ["open for writing", "h5clear"]),
    "a codec that is not installed": (lambda d: pcodec(d / "m.zarr"), ["pcodec", "numcodecs"]),
    "a codec of another package": (lambda d: rewrite_codec(stored(d / "m.zarr"), '{"name":"imagecodecs_jpegxl"}'),
                                   ["imagecodecs_jpegxl", "never read"]),
    "a .zarr without metadata": (lambda d: emptied(d / "m.zarr"), ["zarr.json or .zgroup"]),
}  # fmt: skip


def emptied(path: Path) -> Path:
    path.mkdir()
    (path / "x").write_text("x")
    return path


@pytest.mark.filterwarnings("ignore:Numcodecs codecs are not in the Zarr version 3")
@pytest.mark.parametrize("name", ELSE)
def test_what_is_no_damage_is_named(name: str, tmp_path: Path) -> None:
    make, words = ELSE[name]
    with pytest.raises(InputError) as refused:
        open_expression(make(tmp_path)).rows(0, 40)
    message = str(refused.value)
    assert [word for word in words if word not in message] == [], message
    assert "damaged" not in message


def test_a_file_that_is_open_elsewhere(tmp_path: Path, refuses: Any) -> None:
    path = h5ad(tmp_path / "m.h5ad")
    with lock(path), refuses("m.h5ad", "open for writing in another program", "close it there"):
        open_expression(path)
    assert open_expression(path).n_cells == 40


ERRORS: dict[str, tuple[Exception, str]] = {
    "permission": (PermissionError(13, "Permission denied"), "permission is denied"),
    "gone": (FileNotFoundError(2, "No such file or directory"), "moved or removed meanwhile"),
    "no locks": (OSError("unable to lock file, errno = 37, error message = 'No locks available'"), "USE_FILE_LOCKING"),
    "locks not supported": (OSError("unable to lock file, errno = 95, error message = '...'"), "USE_FILE_LOCKING"),
    "locked": (BlockingIOError("unable to lock file, errno = 11, error message = '...'"), "in another program"),
    "a disk that fails": (OSError(5, "Input/output error"), "the disk, or the network to it, fails"),
    "a disk that fails, by HDF5": (
        OSError("Can't read data (file read failed: time = x, errno = 5, error message = 'Input/output error')"),
        "the disk",
    ),
    "a network that fails": (OSError(116, "Stale file handle"), "the disk, or the network to it, fails"),
    "something else": (TypeError("'str' object is not a codec"), "do not understand it (TypeError)"),
    "an attribute that is new": (AttributeError("no attribute 'value'"), "do not understand it (AttributeError)"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors_of_libraries_in_words(name: str, tmp_path: Path) -> None:
    error, words = ERRORS[name]
    message = str(unreadable(str(tmp_path / "m.h5ad"), error))
    assert words in message
    assert "damaged" not in message


MISTAKES = [NameError("x"), AttributeError("x"), TypeError("x"), AssertionError("x"), NotImplementedError("x")]


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda e: type(e).__name__)
def test_a_mistake_of_ours_is_told_as_one(
    mistake: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """The file is sound: with exit status 1 comes the traceback, and whom it should reach."""
    path = h5ad(tmp_path / "m.h5ad")
    source = f"def read_range(*_):\n    raise {type(mistake).__name__}('x')\n"
    ours: dict[str, Any] = {"__name__": "pairscape.pipeline.storage.chunks"}
    exec(source, ours)
    monkeypatch.setattr(sparse_format, "read_range", ours["read_range"])
    monkeypatch.setattr("pairscape.pipeline.matrix.formats.hdf5_zarr.read_range", ours["read_range"])
    assert run_command("ingest", path, tmp_path / "e.zarr") == 1
    err = capfd.readouterr().err
    assert "Traceback" in err
    assert "mistake of Pairscape" in err.splitlines()[-1]
    assert "report" in err.splitlines()[-1]
    assert "damaged" not in err


def test_a_mistake_within_a_library_is_not_ours() -> None:
    with pytest.raises(TypeError) as raised:
        h5py.File(5)  # type: ignore[call-overload]
    assert not is_mistake_of_ours(raised.value)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_may_not_be_entered(tmp_path: Path, refuses: Any) -> None:
    path = stored(tmp_path / "m.zarr")
    path.chmod(0o600)
    with refuses("m.zarr", "may not be read"):
        open_expression(path)


def test_filters_of_others_are_taken_where_they_are_installed(tmp_path: Path) -> None:
    """A package of the name is imported before a file is opened."""
    (tmp_path / "hdf5plugin.py").write_text("print('hdf5plugin is imported')")
    script = "import pairscape.pipeline.matrix.formats.hdf5_zarr"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(Path(__file__).parents[3])])}
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert done.stdout == "hdf5plugin is imported\n"
