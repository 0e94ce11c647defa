"""Fetching: the right bytes or one line that says why not; nothing half-written, nothing trusted twice."""

import errno
import hashlib
import json
import shutil
import tarfile
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

import pairscape
from pairscape.pipeline.datasets import fetch
from pairscape.pipeline.datasets import registry as registry_module
from pairscape.pipeline.datasets.fetch import LOCK, Place, fetch_set, fetch_url, find_set, is_local
from pairscape.pipeline.datasets.registry import DataSet, RemoteFile, read_registry
from pairscape.pipeline.errors import InputError, JobError
from typed import run_command

CELLS = b"gene,c1,c2\nA,1,2\nB,0,3\n" * 500
EDGES = b"source,target\nA,B\n"


def sha256(content):
    return hashlib.sha256(content).hexdigest()


class Host(ThreadingHTTPServer):
    """Serves `pages`: path → (status, body, length that the header tells); remembers what was asked."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Answer)
        self.pages, self.asked = {}, []

    def url(self, path):
        return f"http://127.0.0.1:{self.server_port}/{path}"


class Answer(BaseHTTPRequestHandler):
    def do_GET(self):
        path = self.path.lstrip("/")
        self.server.asked.append(path)
        status, body, length = self.server.pages.get(path, (404, b"", 0))
        self.send_response(status)
        self.send_header("Content-Length", str(length))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def host(monkeypatch):
    """A host with a good, a corrupted and a truncated copy of the cells, and the edges."""
    monkeypatch.setenv("NO_PROXY", "*")
    with Host() as server:
        for name, body in {"cells.csv": CELLS, "bad.csv": CELLS.replace(b"3", b"4"), "edges.csv": EDGES}.items():
            server.pages[name] = (200, body, len(body))
        server.pages["cut.csv"] = (200, CELLS[:100], len(CELLS))
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def no_folder_of_data(monkeypatch):
    monkeypatch.delenv("PAIRSCAPE_DATA", raising=False)


@pytest.fixture
def place(tmp_path):
    return Place(tmp_path / "cache")


def data_set(*files):
    said = dict.fromkeys(("title", "organism", "contents", "labels", "licence", "citation"), "said")
    return DataSet(name="tiny", folder="tiny_set", use=("pairscape ingest {cells.csv} e.zarr",), files=files, **said)


def cells(host, *names, **fields):
    return RemoteFile("cells.csv", tuple(host.url(name) for name in names), **{"sha256": sha256(CELLS), **fields})


def contents(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*")) if folder.exists() else None


# ---------------------------------------------------------------- the right bytes


def test_files_are_downloaded_once_and_checked(host, place, stages):
    edges = RemoteFile("edges.csv", (host.url("edges.csv"),), sha256=sha256(EDGES))
    wanted = data_set(cells(host, "cells.csv"), edges)
    assert not is_local(wanted, place)
    first = fetch_set(wanted, place, stages)
    assert stages.seen["fetch cells.csv"] == [len(CELLS), len(CELLS)]
    assert first.files["cells.csv"] == place.folder / "tiny_set" / "cells.csv"
    assert {name: path.read_bytes() for name, path in first.files.items()} == {"cells.csv": CELLS, "edges.csv": EDGES}
    assert is_local(wanted, place)
    assert fetch_set(wanted, place, stages).files == first.files
    assert host.asked == ["cells.csv", "edges.csv"]
    assert contents(place.folder) == ["tiny_set", "tiny_set/cells.csv", "tiny_set/edges.csv"]


@pytest.mark.parametrize("first", ["gone.csv", "bad.csv", "cut.csv"])
def test_where_one_address_fails_the_next_is_tried(first, host, place, silent):
    fetched = fetch_set(data_set(cells(host, first, "cells.csv")), place, silent)
    assert fetched.files["cells.csv"].read_bytes() == CELLS
    assert fetched.notes == (f"cells.csv: from {host.url('cells.csv')}, sha256 as it must be",)
    assert host.asked == [first, "cells.csv"]


def test_an_archive_is_unpacked_once(host, place, silent, tmp_path):
    (tmp_path / "top" / "hg19").mkdir(parents=True)
    (tmp_path / "top" / "hg19" / "matrix.mtx").write_text("mtx")
    with tarfile.open(tmp_path / "m.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "top", "top")
    body = (tmp_path / "m.tar.gz").read_bytes()
    host.pages["m.tar.gz"] = (200, body, len(body))
    wanted = data_set(RemoteFile("m.tar.gz", (host.url("m.tar.gz"),), sha256=sha256(body), unpack="top/hg19"))
    for _ in range(2):
        folder = fetch_set(wanted, place, silent).files["m.tar.gz"]
        assert folder == place.folder / "tiny_set" / "m" / "top" / "hg19"
        assert contents(folder) == ["matrix.mtx"]
    assert host.asked == ["m.tar.gz"]


# ---------------------------------------------------------------- refused, and nothing left


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("bad.csv", [sha256(CELLS), sha256(CELLS.replace(b"3", b"4")), "not kept"]),
        ("cut.csv", ["IncompleteRead"]),
        ("gone.csv", ["404"]),
    ],
)
def test_what_cannot_be_had_is_one_line_and_leaves_nothing(name, words, host, place, silent, refuses):
    wanted = data_set(cells(host, name))
    with refuses("cells.csv cannot be fetched", host.url(name), "PAIRSCAPE_DATA/tiny_set/", *words, kind=JobError):
        fetch_set(wanted, place, silent)
    assert contents(place.folder) is None


def test_a_truncated_download_without_a_known_sum_is_noticed(host, place, silent, refuses):
    with refuses("IncompleteRead", kind=JobError):
        fetch_set(data_set(cells(host, "cut.csv", sha256=None)), place, silent)
    assert contents(place.folder) is None


def test_no_network_is_one_line(place, silent, refuses):
    with Host() as closed:
        url = closed.url("cells.csv")
    wanted = data_set(RemoteFile("cells.csv", (url,), sha256=sha256(CELLS)))
    with refuses("refused", "Without internet access", "PAIRSCAPE_DATA/tiny_set/cells.csv", kind=JobError):
        fetch_set(wanted, place, silent)
    assert contents(place.folder) is None


def test_interrupted_it_leaves_nothing(host, place, monkeypatch):
    class Impatient:
        def start(self, stage, total): ...

        def advance(self, units):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch_set(data_set(cells(host, "cells.csv")), place, Impatient())
    assert contents(place.folder) is None


def test_a_full_disk_is_one_line(host, place, silent, refuses, monkeypatch):
    class Full:
        def __init__(self, *arguments, **options): ...

        def __call__(self, *arguments):
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(fetch.pooch, "HTTPDownloader", Full)
    with refuses("cells.csv cannot be written", "No space left", "--to", kind=JobError):
        fetch_set(data_set(cells(host, "cells.csv")), place, silent)


def test_a_file_that_was_changed_is_refused_and_left(host, place, silent, refuses):
    wanted = data_set(cells(host, "cells.csv"))
    path = fetch_set(wanted, place, silent).files["cells.csv"]
    path.write_bytes(EDGES)
    with refuses(str(path), sha256(EDGES), sha256(CELLS), "remove it"):
        fetch_set(wanted, place, silent)
    assert path.read_bytes() == EDGES


# ---------------------------------------------------------------- PAIRSCAPE_DATA


@pytest.fixture
def offline(tmp_path, monkeypatch):
    folder = tmp_path / "offline"
    (folder / "tiny_set").mkdir(parents=True)
    (folder / "tiny_set" / "cells.csv").write_bytes(CELLS)
    monkeypatch.setenv("PAIRSCAPE_DATA", str(folder))
    return folder


def test_the_folder_of_data_is_looked_at_first(host, offline, silent):
    fetched = fetch_set(data_set(cells(host, "cells.csv")), Place.given(None), silent)
    assert fetched.files["cells.csv"] == offline / "tiny_set" / "cells.csv"
    assert fetched.notes == ("cells.csv: from PAIRSCAPE_DATA, sha256 as it must be",)
    assert host.asked == []


def test_with_a_folder_given_it_is_copied_there(host, offline, silent, tmp_path):
    wanted = data_set(cells(host, "cells.csv"))
    fetched = fetch_set(wanted, Place.given(tmp_path / "mine"), silent)
    assert fetched.files["cells.csv"].read_bytes() == CELLS
    assert contents(tmp_path / "mine") == ["tiny_set", "tiny_set/cells.csv"]
    again = fetch_set(wanted, Place.given(offline), silent)  # the very folder: nothing to copy
    assert again.files["cells.csv"] == offline / "tiny_set" / "cells.csv"
    assert host.asked == []


def test_a_damaged_file_there_is_no_reason_to_download(host, offline, silent, refuses):
    (offline / "tiny_set" / "cells.csv").write_bytes(EDGES)
    with refuses(str(offline), sha256(EDGES), sha256(CELLS)):
        fetch_set(data_set(cells(host, "cells.csv")), Place.given(None), silent)
    assert host.asked == []


def test_what_no_address_has_is_served_from_there_only(host, offline, place, silent, refuses):
    wanted = replace(data_set(cells(host)), note="Made from an R object.")
    assert fetch_set(wanted, Place.given(None), silent).files["cells.csv"].read_bytes() == CELLS
    with refuses("no address", "PAIRSCAPE_DATA/tiny_set/cells.csv", "Made from an R object."):
        fetch_set(wanted, place, silent)


def test_a_variable_that_names_no_folder_is_refused(tmp_path, monkeypatch, refuses):
    monkeypatch.setenv("PAIRSCAPE_DATA", str(tmp_path / "nowhere"))
    with refuses("PAIRSCAPE_DATA", "nowhere", "no folder"):
        Place.given(None)


# ---------------------------------------------------------------- taken on trust


def test_a_file_without_a_known_sum_is_recorded_and_held_to_it(host, place, silent, refuses):
    wanted = data_set(cells(host, "cells.csv", sha256=None))
    fetched = fetch_set(wanted, place, silent)
    path = fetched.files["cells.csv"]
    assert "taken on trust" in fetched.notes[0]
    assert sha256(CELLS) in fetched.notes[0]
    held = json.loads((path.parent / LOCK).read_text())["cells.csv"]
    assert (held["url"], held["sha256"]) == (host.url("cells.csv"), sha256(CELLS))
    assert "as first fetched on 20" in fetch_set(wanted, place, silent).notes[0]
    path.unlink()
    host.pages["cells.csv"] = host.pages["bad.csv"]
    with refuses(sha256(CELLS), "not kept", kind=JobError):
        fetch_set(wanted, place, silent)
    path.write_bytes(EDGES)
    with refuses(str(path), sha256(EDGES), sha256(CELLS)):
        fetch_set(wanted, place, silent)


@pytest.mark.parametrize("lock", ["", "[]", '{"cells.csv": {"url": "x"}}', '{"cells.csv": "x"}'])
def test_a_damaged_record_is_refused(lock, host, place, silent, refuses):
    (place.folder / "tiny_set").mkdir(parents=True)
    (place.folder / "tiny_set" / LOCK).write_text(lock)
    with refuses(LOCK, "damaged"):
        fetch_set(data_set(cells(host, "cells.csv", sha256=None)), place, silent)
    assert host.asked == []


def test_any_address_is_taken(host, place, silent, refuses):
    url = host.url("cells.csv?download=1")
    host.pages["cells.csv?download=1"] = host.pages["cells.csv"]
    fetched = fetch_url(url, None, place, silent)
    path = fetched.files["cells.csv"]
    assert path == place.folder / "urls" / "127.0.0.1" / "cells.csv"
    assert sha256(CELLS) in fetched.notes[0]
    assert fetch_url(url, sha256(CELLS).upper(), place, silent).files == fetched.files
    host.pages["other/cells.csv"] = host.pages["cells.csv"]
    with refuses(str(path), url, "another address", "--to"):
        fetch_url(host.url("other/cells.csv"), None, place, silent)
    assert host.asked == ["cells.csv?download=1"]


@pytest.mark.parametrize(
    ("url", "sum_", "words"),
    [
        ("https://example.org/", None, ["names no file"]),
        ("https://", None, ["names no file"]),
        ("https://example.org/a/..", None, ["names no file"]),
        ("https://[bad/x.h5ad", None, ["no address", "Invalid IPv6"]),
        ("https://example.org/x.h5ad", "abc", ["'abc'", "64 hexadecimal"]),
    ],
)
def test_addresses_that_are_refused(url, sum_, words, place, silent, refuses):
    with refuses(*words):
        fetch_url(url, sum_, place, silent)


# ---------------------------------------------------------------- the command


@pytest.fixture
def known(host, monkeypatch):
    """The one data set `tiny`, as the command knows it."""
    registry = {"tiny": data_set(cells(host, "cells.csv"))}
    monkeypatch.setattr(registry_module, "read_registry", lambda: registry)


def test_the_command_prints_paths_licence_and_commands(known, tmp_path, capsys):
    files = pairscape.fetch("tiny", to=tmp_path / "a folder")
    path = tmp_path / "a folder" / "tiny_set" / "cells.csv"
    out = capsys.readouterr().out
    assert files == {"cells.csv": path}
    assert f"{path}\n" in out
    assert "licence   said" in out
    assert f"pairscape ingest '{path}' e.zarr" in out
    assert pairscape.fetch("tiny", to=tmp_path / "a folder", quiet=True) == files
    assert capsys.readouterr().out == ""


def test_the_command_lists(known, tmp_path, capsys):
    assert run_command("fetch", "--list", "--to", tmp_path) == 0
    assert "tiny" in (listed := capsys.readouterr().out)
    assert "here already" not in listed
    pairscape.fetch("tiny", to=tmp_path, quiet=True)
    assert run_command("fetch", "--list", "--to", tmp_path) == 0
    assert "here already" in capsys.readouterr().out
    assert pairscape.fetch(list_sets=True, quiet=True) == {}


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        ([], 2, ["name a data set", "tiny", "--list"]),
        (["tinny"], 2, ["'tinny'", "Did you mean tiny?", "https://"]),
        (["ftp://example.org/x.h5ad"], 2, ["'ftp://example.org/x.h5ad'", "https://"]),
        (["tiny", "--sha256", "0" * 64], 2, ["--sha256 belongs to a file by address"]),
        (["https://example.org/x.h5ad", "--sha256", "0"], 2, ["64 hexadecimal"]),
        (["HOST/gone.h5ad"], 1, ["gone.h5ad cannot be fetched", "404", "PAIRSCAPE_DATA/urls/127.0.0.1/gone.h5ad"]),
        (["HOST/cells.csv", "--sha256", "0" * 64], 1, ["0" * 64, sha256(CELLS)]),
    ],
)
def test_mistakes_are_one_line(arguments, status, words, known, host, tmp_path, capsys):
    arguments = [word.replace("HOST/", host.url("")) for word in arguments]
    assert run_command("fetch", *arguments, "--to", tmp_path / "new", "--quiet") == status
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 1
    assert [word for word in words if word not in err] == [], err
    assert not (tmp_path / "new").exists()


def test_a_target_that_cannot_be_written_is_one_line(known, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert run_command("fetch", "tiny", "--to", tmp_path / "file", "--quiet") == 1
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_near_name_is_suggested_and_a_far_one_is_not():
    registry = read_registry()
    with pytest.raises(InputError, match="Did you mean pbmc3k"):
        find_set("pbmc3", registry)
    with pytest.raises(InputError, match=r"'Xq'\. Known: beeline-mdc"):
        find_set("Xq", registry)


def test_the_cache_serves_as_the_folder_of_data(known, tmp_path, host, monkeypatch):
    pairscape.fetch("tiny", to=tmp_path / "usb", quiet=True)
    shutil.copytree(tmp_path / "usb", tmp_path / "elsewhere")
    monkeypatch.setenv("PAIRSCAPE_DATA", str(tmp_path / "elsewhere"))
    assert pairscape.fetch("tiny", quiet=True) == {"cells.csv": Path(tmp_path / "elsewhere/tiny_set/cells.csv")}
    assert host.asked == ["cells.csv"]
