"""Names of others reach terminal, messages, pictures and file names as text; pipes and devices are refused at once."""

import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from pairscape.model.reports.heatmap_figures import pair_figure
from pairscape.pipeline.errors import LONGEST_MESSAGE, InputError, JobError, printable
from pairscape.pipeline.storage.plain_files import file_name
from typed import run_command

NAMES = {
    "title of the window": "\x1b]0;owned\x07",
    "screen cleared": "\x1b[2J",
    "8-bit control sequence": "\x9b2J",
    "line of its own": "x\nwrote all.zarr",
    "carriage return": "x\rwrote all.zarr",
    "line separator": "x\u2028wrote all.zarr",
    "backspace": "GATA1\x08\x08\x08\x08\x08SPI1",
    "written from the right": "GATA1\u202e1IPS",
    "no width": "GA\u200bTA1",
    "null": "GATA1\x00",
    "half a surrogate": "GATA1\udc80",
}
RAW = ("\x1b", "\x9b", "\r", "\u2028", "\x08", "\u202e", "\u200b", "\x00", "\udc80", "\x07")


def cells(first: str, value: float = 1) -> ad.AnnData:
    x = np.random.default_rng(0).poisson(2.0, (12, 4)).astype(np.float32) + 1
    x[0, 0] = value
    return ad.AnnData(
        sparse.csr_matrix(x),
        obs=pd.DataFrame({first: ["a"] * 12}, index=[f"ACGTACGTAC{i}" for i in range(12)]),
        var=pd.DataFrame(index=[first, "SPI1", "KLF1", "CD4"]),
    )


@pytest.mark.parametrize("name", [name for name in NAMES if "surrogate" not in name])  # which no file can hold
def test_nothing_that_a_terminal_obeys_is_printed(name: str, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    from pairscape import ingest

    ingest(cells(NAMES[name]), tmp_path / "e.zarr", dry_run=True)
    with pytest.raises(InputError) as refused:
        ingest(cells(NAMES[name], value=-1), tmp_path / "e.zarr")
    out = capfd.readouterr().out + str(refused.value)
    assert [sign for sign in RAW if sign in out] == []
    assert not any(line.startswith("wrote all") for line in out.splitlines())
    assert printable(NAMES[name])[:5] in out


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", [InputError, JobError])
def test_errors_are_one_safe_line(kind: type[Exception], name: str) -> None:
    message = str(kind(f"m.h5ad: gene {NAMES[name]} is odd"))
    assert len(message.splitlines()) == 1
    assert not any(sign in message for sign in RAW)


@pytest.mark.parametrize("text", ["x" * 10**6, "a b " * 10**5, "\x1b" * 10**5])
def test_errors_are_no_longer_than_a_screen(text: str) -> None:
    assert len(str(InputError(f"gene {text} is odd"))) <= LONGEST_MESSAGE + 1


@pytest.mark.parametrize("text", ["GATA1", "Müller", "κ 細胞 🧬", "HLA-DRA", "a\tb", "µ ± ·", ""])
def test_what_is_harmless_stays(text: str) -> None:
    assert printable(text) == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("GATA1-SPI1.png", "GATA1-SPI1.png"),
        ("../../etc/x-SPI1.png", "_.._etc_x-SPI1.png"),
        ("a\\b-c:d.png", "a_b-c_d.png"),
        ("\x1b[2J-x\ny.png", "_[2J-x_y.png"),
        ("-o-x.png", "o-x.png"),
        (".hidden-x.png", "hidden-x.png"),
        ("x" * 400 + "-y.png", "x" * 100 + ".png"),
        (".png", "_.png"),
    ],
)
def test_names_of_files_are_made_safe(text: str, expected: str) -> None:
    assert file_name(text) == expected


def test_a_picture_of_odd_names_is_drawn(tmp_path: Path) -> None:
    names = [name for name in NAMES.values() if "\udc80" not in name]
    images = np.ones((len(names), 4, 4), np.int64)
    figure = pair_figure(images, [""] * len(names), names, names)
    figure.savefig(tmp_path / "p.svg")
    assert not any(sign in (tmp_path / "p.svg").read_text() for sign in ("\x1b", "\x08"))


def pipe(path: Path) -> None:
    os.mkfifo(path)


def door(path: Path) -> None:
    """A socket, by a short name: its path has a limit."""
    here = Path.cwd()
    os.chdir(path.parent)
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(path.name)
    finally:
        os.chdir(here)


def device(path: Path) -> None:
    path.symlink_to("/dev/zero")


KINDS: dict[str, Callable[[Path], Any]] = {"a pipe": pipe, "a socket": door, "a device": device}
COMMANDS = {
    "ingest": ("m.h5ad", ["ingest", "m.h5ad", "e.zarr"]),
    "ingest text": ("m.csv", ["ingest", "m.csv", "e.zarr"]),
    "ingest gz": ("m.csv.gz", ["ingest", "m.csv.gz", "e.zarr"]),
    "a list beside a matrix": ("f/genes.tsv", ["ingest", "f", "e.zarr"]),
    "metadata of a store": ("z.zarr/zarr.json", ["ingest", "z.zarr", "e.zarr"]),
    "genes": ("g.txt", ["ingest", "good.h5ad", "e.zarr", "--genes", "g.txt"]),
    "regulators": ("g.txt", ["plan", "good.h5ad", "--regulators", "g.txt", "--scheduler", "synchronous"]),
    "pairs": ("g.txt", ["plan", "good.h5ad", "--pairs", "g.txt", "--scheduler", "synchronous"]),
    "job file": ("job.toml", ["run", "job.toml"]),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", COMMANDS)
def test_pipes_sockets_and_devices_are_refused(
    name: str, kind: str, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path, words = COMMANDS[name]
    cells("GATA1").write_h5ad("good.h5ad")
    Path("f").mkdir()
    Path("f/matrix.mtx").write_text("%%MatrixMarket matrix coordinate integer general\n2 2 1\n1 1 5\n")
    Path("f/barcodes.tsv").write_text("x\ny\n")
    Path("z.zarr").mkdir()
    KINDS[kind](tmp_path / path)
    assert run_command(*words) == 2
    err = capfd.readouterr().err
    assert kind in err
    assert len(err.splitlines()) == 1
    assert not Path("e.zarr").exists()
