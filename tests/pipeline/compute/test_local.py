"""The cluster of this machine: strangers are turned away, and Ctrl-C ends everything in one line.

Each command is run for real, in a session of its own, and gets SIGINT as a terminal sends it: to all its processes.
"""

import atexit
import gc
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from threading import Event

import dask
import psutil
import pytest
from distributed import Client, Security

from made_runs import make_run
from model_fixtures import small_store
from pairscape.command_line import app
from pairscape.interrupt import ANEW, LINES, line
from pairscape.pipeline.compute.clusters import address_of, open_client
from pairscape.pipeline.compute.opening import open_session
from pairscape.pipeline.options import Compute
from pairscape.pipeline.storage.results import result_folder
from pairscape.pipeline.storage.workspace import sent_folder


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A matrix, images and a network."""
    folder = tmp_path_factory.mktemp("local")
    small_store(folder)
    make_run(folder / "run", folder / "small" / "images.zarr")
    return folder


# ── small jobs ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_small_job_starts_no_process_unless_workers_are_asked_for():
    with open_session(Compute(), small=True) as session:
        assert session.client is None
        assert session.memory
    with open_session(Compute("threads", 1), small=True) as session:
        assert session.client is not None
        with open_session(Compute(), small=True) as within:  # a client is at hand
            assert within.client is not None


def note_at_the_end(path):
    """Note, when this process ends, how many objects Python no longer looks at."""
    atexit.register(lambda: Path(path).write_text(str(gc.get_freeze_count())))
    return gc.get_threshold()[0]


def test_workers_do_not_look_for_garbage_while_they_load_and_end(tmp_path):
    here = gc.get_threshold()
    (tmp_path / "own.py").write_text("import os\nos.environ['OWN_PRELOAD'] = 'yes'\n")
    with (
        dask.config.set({"distributed.worker.preload": [str(tmp_path / "own.py")]}),
        open_client(Compute("local", 1)) as client,
    ):
        assert client.submit(note_at_the_end, str(tmp_path / "ended")).result() == 50_000
        assert client.submit(os.getenv, "OWN_PRELOAD").result() == "yes"
    assert int((tmp_path / "ended").read_text()) > 10_000
    with open_client(Compute("threads", 1)) as client:
        client.submit(abs, -3).result()
    assert (gc.get_threshold(), gc.get_freeze_count()) == (here, 0)


# ── shared machines ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def local():
    with open_client(Compute("local", 1)) as client:
        yield client


STRANGERS = {
    "in the open": lambda address: (address.replace("tls://", "tcp://"), None),
    "with no certificate": lambda address: (address, Security()),
    "with a certificate of its own": lambda address: (address, Security.temporary()),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("case", STRANGERS)
def test_a_stranger_is_turned_away(local, case):
    address, security = STRANGERS[case](address_of(local))
    with pytest.raises((OSError, TypeError, ValueError, RuntimeError)):
        Client(address, timeout=1, security=security)
    assert local.submit(abs, -3).result() == 3


def test_every_port_of_a_local_job_wants_a_certificate(local):
    """Scheduler, workers and their nannies; the dashboard is a page to look at."""
    here, ports = psutil.Process(), set()
    for process in (here, *here.children(recursive=True)):
        ports |= {c.laddr.port for c in process.net_connections("inet") if c.status == psutil.CONN_LISTEN}
    open_to_all = [port for port in ports if _answers(port)]
    assert len(ports) >= 3
    assert open_to_all == []


def _answers(port):
    """Whether what listens there says, in the open, the first words of Dask's protocol."""
    with socket.create_connection(("127.0.0.1", port), timeout=2) as connection:
        connection.settimeout(0.5)
        try:
            return bool(connection.recv(8))
        except (TimeoutError, ConnectionError):
            return False


def test_threads_listen_nowhere():
    before = {c.laddr.port for c in psutil.Process().net_connections("inet") if c.status == psutil.CONN_LISTEN}
    with open_client(Compute("threads", 2)) as client:
        assert address_of(client).startswith("inproc://")
        now = {c.laddr.port for c in psutil.Process().net_connections("inet") if c.status == psutil.CONN_LISTEN}
        assert not [port for port in now - before if _answers(port)]  # pages to look at


# ── Ctrl-C ───────────────────────────────────────────────────────────────────────────────────────────────────────────

PROGRAM = """
from pairscape import __main__ as program
run = program._run
def say_and_run():
    print("started", flush=True)
    run()
if __name__ == '__main__':
    program._run = say_and_run
    program.main()
"""
THREADS = ("--scheduler", "threads")
JOBS = {  # arguments, and the word after which Ctrl-C is pressed
    "at the start": (("train", "{i}", "{t}/r"), "started"),
    "train": (("train", "{i}", "{t}/r", "--epochs", "900", "--patience", "900"), "training"),
    "predict, processes": (
        ("predict", "{run}", "{e}", "{t}/s.parquet", "--all-pairs", "--workers", "2"), "loading network",
    ),
    "predict, here": (
        ("predict", "{run}", "{e}", "{t}/s.parquet", "--all-pairs", "--scheduler", "synchronous"), "sampling pairs",
    ),
    "heatmaps, processes": (("heatmaps", "{e}", "{t}/i.zarr", "--all-pairs", "--workers", "2"), "dashboard"),
    "simulate, threads": (
        ("simulate", "{t}/a.zarr", "--cells", "300000", "--genes", "3000", "--density", "0.1", *THREADS),
        "writing entries",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", JOBS)
def test_ctrl_c_is_one_line(base, tmp_path, case):
    words, moment = JOBS[case]
    (program := tmp_path / "program.py").write_text(PROGRAM)
    small = base / "small"
    places = {"i": small / "images.zarr", "e": small / "expression.zarr", "t": tmp_path, "run": base / "run"}
    command = [sys.executable, program, *(word.format(**places) for word in words)]
    with (tmp_path / "said").open("w") as said, subprocess.Popen(
        command, stdout=said, stderr=subprocess.STDOUT, start_new_session=True, preexec_fn=_hear
    ) as job:  # fmt: skip
        _wait_for(moment, tmp_path / "said", job)
        children = psutil.Process(job.pid).children(recursive=True)
        os.killpg(job.pid, signal.SIGINT)
        assert job.wait(30) == 130
    lines = (tmp_path / "said").read_text().splitlines()
    assert lines[-1:] == [f"pairscape: {LINES.get(words[0], ANEW)}"]
    assert not [line for line in lines if "Traceback" in line or "Error" in line or "Warning" in line]
    assert psutil.wait_procs(children, timeout=10)[1] == []


EARLY = """
import os, signal
from pairscape.__main__ import main
pipe = os.pipe
def interrupted():
    os.kill(os.getpid(), signal.SIGINT)
    return pipe()
os.pipe = interrupted
main()
"""


def test_ctrl_c_before_anything_stands_is_one_line_too():
    done = subprocess.run([sys.executable, "-c", EARLY], capture_output=True, text=True, preexec_fn=_hear, check=False)
    assert (done.returncode, done.stderr) == (130, f"pairscape: {ANEW}\n")


def test_what_is_said_is_of_the_command(monkeypatch):
    """A run that goes to a URL is made in a folder that does not stay."""
    monkeypatch.setattr("pairscape.interrupt._keeps_nothing", Event())  # an interrupt of another test may have set it
    commands = set(app) - {"--help", "-h", "--version"}
    assert LINES.keys() < commands
    said = {}
    for command in commands:
        monkeypatch.setattr("sys.argv", ["pairscape", command, "x"])
        said[command] = line()
    assert [command for command in sorted(commands) if "goes on" in said[command]] == [
        "heatmaps", "ingest", "predict", "run", "train", "tune",
    ]  # fmt: skip
    assert said["evaluate"] == said["compare"] == ANEW
    monkeypatch.setattr("sys.argv", ["pairscape", "train", "images.zarr", "memory://place/run"])
    with pytest.raises(KeyboardInterrupt), sent_folder("memory://place/run", "network"):
        raise KeyboardInterrupt
    assert line() == ANEW
    with pytest.raises(ValueError, match="odd"), sent_folder("memory://place/run", "network"):
        raise ValueError("odd")
    assert line() == LINES["train"]
    with sent_folder("memory://place/run", "network") as folder, result_folder(folder, "network"):
        pass
    assert line() == LINES["train"]


def _hear():
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # a test that runs in the background of a shell hears none


def _wait_for(moment, said, job):
    while moment not in said.read_text():
        assert job.poll() is None, said.read_text()
        time.sleep(0.05)
