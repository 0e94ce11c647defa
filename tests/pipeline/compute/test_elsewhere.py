"""Workers that others started: the `dask` command, certificates, other machines; and those that cannot do the job."""

import json
import os
import shutil
import subprocess
import sys

import dask
import pytest
from dask.config import collect_env

from engines import ROOT, engine, missing, wait_for
from heatmap_jobs import FINE, run, store_hash
from pairscape.pipeline.compute import clusters, workers
from pairscape.pipeline.compute import clusters as addresses
from pairscape.pipeline.compute.clusters import address_of, open_client
from pairscape.pipeline.compute.session import Session
from pairscape.pipeline.options import Compute
from typed import run_command

pytestmark = pytest.mark.cluster
JOB = ("--all-pairs", "--scale", "rank", "--bins", "130")


@pytest.fixture(scope="module")
def truth(tmp_path_factory, expression_path):
    """Hash of the store that a synchronous run makes."""
    target = tmp_path_factory.mktemp("truth") / "i.zarr"
    run(expression_path, target, binning=FINE)
    return store_hash(target)


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """A scheduler without workers."""
    with engine(tmp_path_factory.mktemp("plain")) as started:
        yield started


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    """An authority and a certificate, as deploy/tls/certificates.sh makes them."""
    folder = tmp_path_factory.mktemp("tls")
    subprocess.run(["bash", ROOT / "deploy/tls/certificates.sh", folder], check=True, capture_output=True)
    assert (folder / "dask.key").stat().st_mode & 0o077 == 0
    return folder


def test_workers_of_the_dask_command_write_the_same_bytes(plain, truth, expression_path, tmp_path, capsys):
    """By scheduler file; nothing is left beside the target, and the scheduler goes on after the job."""
    notes = []
    with plain.workers(2):
        assert run_command("heatmaps", expression_path, tmp_path / "i.zarr", *JOB, "--scheduler", plain.file) == 0
        said = capsys.readouterr().out
        assert store_hash(tmp_path / "i.zarr") == truth
        assert sorted(path.name for path in tmp_path.iterdir()) == ["i.codes.zarr", "i.zarr"]
        with dask.config.set(collect_env({"DASK_SCHEDULER_ADDRESS": plain.address})):  # and it is used unnamed
            with open_client(Compute(), notes.append) as client:
                assert address_of(client) == plain.address
                assert len(client.nthreads()) == 2  # whoever opened a cluster closes it: not we
            with open_client(Compute("synchronous")) as none:
                assert none is None
    assert "dashboard: http://127.0.0.1:" in said
    assert notes[0].startswith(f"using the scheduler at {plain.address}, as DASK_SCHEDULER_ADDRESS")


def test_certificates_all_the_way(certificates, truth, expression_path, tmp_path, refuses, monkeypatch):
    """deploy/README.md's walk: scheduler, workers and job speak tls:// only, and those without are turned away."""
    files = [f"--tls-{kind}" for kind in ("ca", "cert", "key")]
    files = [word for pair in zip(files, ("ca.pem", "dask.pem", "dask.key"), strict=True) for word in pair]
    files = [str(certificates / word) if "." in word else word for word in files]
    with engine(tmp_path / "tls", tls=certificates) as secure, secure.workers(1):
        assert secure.address.startswith("tls://127.0.0.1:")
        job = ("heatmaps", expression_path, tmp_path / "i.zarr", *JOB, "--scheduler", secure.address)
        assert run_command(*job, "--quiet", *files) == 0
        monkeypatch.setattr(addresses, "CONNECT_SECONDS", 1)
        with refuses(secure.address, "certificates"), open_client(Compute(secure.address)):
            pass
        with (
            refuses("no Dask scheduler answers"),
            open_client(Compute(secure.address.replace("tls", "tcp"))),
        ):
            pass
    assert store_hash(tmp_path / "i.zarr") == truth


def test_a_scheduler_without_workers_is_refused(plain, refuses, monkeypatch):
    """At once it is said what is waited for."""
    monkeypatch.setattr(clusters, "WORKER_SECONDS", 0.3)
    said = []
    with refuses(plain.address, "no worker for 0.3 s", "dask worker"), open_client(Compute(plain.address), said.append):
        pass
    assert said[-1] == f"waiting for a first worker at {plain.address}"


def test_another_pairscape_is_refused_before_anything_is_written(plain, expression_path, tmp_path, capsys):
    """The same version by its number, and one file of it changed: a stale checkout on a worker."""
    shutil.copytree(ROOT / "pairscape", tmp_path / "stale/pairscape")  # with what its links point to
    with (tmp_path / "stale/pairscape/pipeline/heatmaps/kernel.py").open("a") as file:
        file.write("# changed\n")
    with plain.workers(1, name="stale", environment={"PYTHONPATH": str(tmp_path / "stale")}):
        status = run_command("heatmaps", expression_path, tmp_path / "i.zarr", *JOB, "--scheduler", plain.address)
    error = capsys.readouterr().err
    assert status == 2
    assert error.startswith("pairscape: worker tcp://127.0.0.1:")
    assert "runs source files" in error
    assert not list(tmp_path.glob("*i.*"))


def test_no_pairscape_is_refused(plain, refuses, tmp_path):
    (tmp_path / "pairscape.py").touch()  # what the worker imports instead
    with (
        plain.workers(1, name="bare", environment={"PYTHONPATH": str(tmp_path)}),
        refuses("worker tcp://127.0.0.1:", "cannot take part (", "ModuleNotFoundError", "install version"),
        open_client(Compute(plain.address)),
    ):
        pass


needs_mounts = pytest.mark.skipif(bool(missing("unshare")), reason=missing("unshare"))


@needs_mounts
def test_a_worker_that_does_not_see_the_stores_is_refused(plain, expression_path, tmp_path, capsys, monkeypatch):
    """A worker with a disk of its own where the target's folder lies: once nothing, once not to be written."""
    monkeypatch.setattr(workers, "SEEN_SECONDS", 0.3)
    (tmp_path / "shared").mkdir()
    hidden = f'mount -t tmpfs none {tmp_path}/shared && exec "$@"'
    prefix = ("unshare", "--mount", "sh", "-c", hidden, "sh")
    job = ("heatmaps", expression_path, tmp_path / "shared/i.zarr", *JOB, "--scheduler", plain.address)
    with plain.workers(1, name="apart", prefix=prefix):
        assert run_command(*job) == 2
    error = capsys.readouterr().err
    assert f"cannot read what is written here at {tmp_path}/shared/.i.zarr.probe" in error
    assert "worker tcp://127.0.0.1:" in error
    assert not list((tmp_path / "shared").iterdir())


@needs_mounts
def test_a_worker_that_may_not_write_is_refused(plain, expression_path, tmp_path, capsys):
    (tmp_path / "shared").mkdir()
    locked = f"mount --bind {tmp_path}/shared {tmp_path}/shared && mount -o remount,ro,bind {tmp_path}/shared"
    prefix = ("unshare", "--mount", "sh", "-c", f'{locked} && exec "$@"', "sh")
    job = ("heatmaps", expression_path, tmp_path / "shared/i.zarr", *JOB, "--scheduler", plain.address)
    with plain.workers(1, name="locked", prefix=prefix):
        assert run_command(*job) == 2
    assert f"cannot write beside {tmp_path}/shared/.i.zarr.probe (OSError" in capsys.readouterr().err


@needs_mounts
def test_a_late_worker_that_cannot_is_left_out(plain, truth, expression_path, tmp_path, monkeypatch):
    """It comes while the job runs; it is retired, said, and the job ends on the others."""
    monkeypatch.setattr(workers, "SEEN_SECONDS", 0.3)
    monkeypatch.setattr(workers, "WATCH_SECONDS", 0.1)
    (tmp_path / "shared").mkdir()
    prefix = ("unshare", "--mount", "sh", "-c", f'mount -t tmpfs none {tmp_path}/shared && exec "$@"', "sh")
    said = []
    with plain.workers(1, name="good"):
        target = tmp_path / "shared/i.zarr"
        with (
            open_client(Compute(plain.address), said.append, reads=[expression_path], writes=target) as client,
            plain.workers(1, name="late", prefix=prefix),
        ):
            wait_for(lambda: [line for line in said if line.startswith("left out: worker")], "word of the worker")
            wait_for(lambda: len(client.nthreads()) == 1, "worker alone")
            run(expression_path, target, binning=FINE, session=Session(client))
    assert store_hash(target) == truth


@pytest.fixture
def hosts():
    """Three hosts: network namespaces that meet at a bridge in a fourth; the names of the three."""
    if reason := missing("ip"):
        pytest.skip(reason)
    tag = f"ps{os.getpid() % 100_000}"
    names = [f"{tag}{letter}" for letter in "abc"]
    try:
        if subprocess.run(["ip", "netns", "add", tag], capture_output=True, check=False).returncode:
            pytest.skip("network namespaces are not permitted here")
        ip("-n", tag, "link", "add", "bridge", "type", "bridge")
        ip("-n", tag, "link", "set", "bridge", "up")
        for number, name in enumerate(names, 1):
            ip("netns", "add", name)
            ip("-n", tag, "link", "add", f"v{number}", "type", "veth", "peer", "name", "eth0", "netns", name)
            ip("-n", tag, "link", "set", f"v{number}", "master", "bridge", "up")
            ip("-n", name, "addr", "add", f"10.77.0.{number}/24", "dev", "eth0")
            ip("-n", name, "link", "set", "eth0", "up")
            ip("-n", name, "link", "set", "lo", "up")
        yield names
    finally:
        for name in (*names, tag):
            subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)


def ip(*words):
    subprocess.run(["ip", *words], check=True, capture_output=True)


def test_three_hosts_write_the_same_bytes(hosts, truth, expression_path, tmp_path):
    """Scheduler and driver on one host, workers on two others, a disk for all."""
    within = [("ip", "netns", "exec", name) for name in hosts]
    code = "import pairscape; pairscape.main()"
    with (
        engine(tmp_path / "e", host="10.77.0.1", prefix=within[0]) as started,
        started.workers(1, name="b", host="10.77.0.2", prefix=within[1]),
        started.workers(1, name="c", host="10.77.0.3", prefix=within[2]),
    ):
        wait_for(lambda: "Registered to" in (tmp_path / "e/b.log").read_text(), "worker b")
        wait_for(lambda: "Registered to" in (tmp_path / "e/c.log").read_text(), "worker c")
        assert json.loads(started.file.read_text())["address"].startswith("tcp://10.77.0.1:")
        command = [*within[0], sys.executable, "-c", code, "heatmaps", expression_path, tmp_path / "i.zarr", *JOB,
                   "--scheduler", started.file]  # fmt: skip
        done = subprocess.run(list(map(str, command)), cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert store_hash(tmp_path / "i.zarr") == truth
