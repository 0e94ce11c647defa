"""The doors: which one a name opens, what is refused before anything starts, and what listens where."""

import os
import sys
from contextlib import nullcontext
from pathlib import Path
from types import ModuleType

import dask
import psutil
import pytest
from distributed import Client, LocalCluster

from heatmap_jobs import FINE, run, store_hash
from pairscape.pipeline.compute import clusters, workers
from pairscape.pipeline.compute.clusters import address_of, open_client, security_of
from pairscape.pipeline.compute.memory import require_memory
from pairscape.pipeline.compute.opening import measuring, more_memory, smallest_memory
from pairscape.pipeline.compute.queues import job_options, warn_if_open
from pairscape.pipeline.compute.session import Session
from pairscape.pipeline.compute.workers import Probe, describe_place, describe_worker, differences, versions
from pairscape.pipeline.errors import InputError
from pairscape.pipeline.options import Compute

# ── refused ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("given", "words"), [
    ({"scheduler": "slurmish"}, ["'slurmish' is unknown", "kubernetes", "tcp://", ".json"]),
    ({"scheduler": "local", "lifetime": "1h"}, ["lifetime is 1h", "queue"]),
    ({"scheduler": "tls://10.0.0.1:8786", "tls_ca": "ca.pem"}, ["--tls-ca, --tls-cert and --tls-key belong together"]),
    ({"scheduler": "absent.json"}, ["absent.json does not exist", "dask scheduler --scheduler-file"]),
    ({"scheduler": "empty.json"}, ["empty.json is no scheduler file"]),
    ({"scheduler": "list.json"}, ["list.json is no scheduler file"]),
    ({"scheduler": "tls://127.0.0.1:9"}, ["tls://127.0.0.1:9 wants certificates", "distributed.comm.tls"]),
    ({"scheduler": "tls://127.0.0.1:9", "tls_ca": "no.pem", "tls_cert": "no.pem", "tls_key": "no.pem"},
     ["no.pem does not exist", "PEM"]),
    ({"scheduler": "slurm"}, ["job of slurm needs to know its memory", "--memory-limit 4GB", "jobqueue.slurm.memory"]),
    ({"scheduler": "slurm", "memory_limit": "lots"}, ["'lots' is no size"]),
    ({"scheduler": "slurm", "memory_limit": "1GB", "lifetime": "soon"}, ["'soon' is no time", "55m"]),
    ({"scheduler": "gateway", "memory_limit": "1GB"}, ["--memory-limit", "gateway.cluster.options"]),
    ({"scheduler": "gateway"}, ["the gateway gives no cluster", "No dask-gateway address"]),
])  # fmt: skip
def test_what_cannot_be_opened_is_refused(given, words, refuses, tmp_path, monkeypatch):
    if given["scheduler"] == "slurm":
        pytest.importorskip("dask_jobqueue")
    if given == {"scheduler": "gateway"}:
        pytest.importorskip("dask_gateway")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty.json").touch()
    (tmp_path / "list.json").write_text("[]")
    with refuses(*words), open_client(Compute(**given)):
        pass


@pytest.mark.parametrize(("name", "package", "extra"), [
    ("slurm", "dask_jobqueue", "slurm"), ("lsf", "dask_jobqueue", "slurm"),
    ("kubernetes", "dask_kubernetes.operator", "kubernetes"), ("gateway", "dask_gateway", "gateway"),
])  # fmt: skip
def test_a_missing_package_is_named(name, package, extra, refuses, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    words = f"--scheduler {name} needs {package}", f"pip install 'pairscape[{extra}]'"
    with refuses(*words), open_client(Compute(name)):
        pass


@pytest.mark.parametrize("name", ["kubernetes", "gateway"])
def test_a_service_that_fails_is_one_line(name, refuses, monkeypatch):
    def broken(**arguments):
        raise RuntimeError("cannot connect\n  to the API")

    monkeypatch.setitem(sys.modules, {"kubernetes": "dask_kubernetes.operator", "gateway": "dask_gateway"}[name],
                        stand_in(KubeCluster=broken, GatewayCluster=broken))  # fmt: skip
    with refuses("gives no cluster (cannot connect)"), open_client(Compute(name)):
        pass


# ── opened ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def stand_in(**names):
    """A module with these names."""
    module = ModuleType("stand_in")
    vars(module).update(names)
    return module


class Hosted(LocalCluster):
    """What a service would give: threads of this process, and what it was asked."""

    asked: list = []  # noqa: RUF012 — read after the cluster has closed

    def __init__(self, **arguments):
        self.asked.append(arguments)
        super().__init__(n_workers=1, threads_per_worker=1, processes=False, dashboard_address="127.0.0.1:0")

    def scale(self, n):
        self.asked.append(n)
        super().scale(n)


@pytest.mark.parametrize(("name", "limit", "asked"), [
    ("kubernetes", "2GiB", {"n_workers": 1, "quiet": True, "resources": {
        "requests": {"memory": str(2**31)}, "limits": {"cpu": "1", "memory": str(2**31)}}}),
    ("gateway", None, {}),
])  # fmt: skip
def test_services_are_asked_for_workers_and_closed(name, limit, asked, monkeypatch):
    monkeypatch.setitem(sys.modules, {"kubernetes": "dask_kubernetes.operator", "gateway": "dask_gateway"}[name],
                        stand_in(KubeCluster=Hosted, GatewayCluster=Hosted))  # fmt: skip
    Hosted.asked.clear()
    said = []
    with (
        dask.config.set({"kubernetes.resources": {"limits": {"cpu": "1"}}}),
        open_client(Compute(name, 1, limit), said.append) as client,
    ):
        assert client.submit(sum, [1, 2], pure=False).result() == 3
    assert Hosted.asked[0] == asked
    assert client.cluster.status.name == "closed"
    assert [line for line in said if line.startswith("dashboard: http://")]


def test_the_dashboard_of_threads_is_told_where_it_listens():
    """On loopback alone; the scheduler of this process has the machine's address in its name."""
    said = []
    with open_client(Compute("threads", 1), said.append) as client:
        assert client is not None
    (line,) = said
    assert line.startswith("dashboard: http://127.0.0.1:")


ADVICE = {  # who started the workers, and what of theirs gives more memory
    "local": (Compute(), False, "give --memory-limit 2.1GB or more with fewer --workers"),
    "in this process": (Compute("synchronous"), False, "use a machine with more"),
    "in this process, limited": (Compute("synchronous", None, "1GB"), False, "give --memory-limit 2.1GB or more"),
    "slurm": (Compute("slurm"), True, "--memory-limit 2.1GB or more (of each worker), or raise jobqueue.slurm.memory"),
    "kubernetes": (Compute("kubernetes"), True, "--memory-limit 2.1GB or more, on nodes that have it"),
    "gateway": (Compute("gateway"), True, "ask for 2.1GB or more in gateway.cluster.options"),
    "an address": (Compute("tcp://10.0.0.1:8786"), True, "somebody else: start them with 2.1GB or more each (dask wor"),
    "a client at hand": (Compute(), True, "somebody else: start them with 2.1GB or more each"),
}


@pytest.mark.parametrize("case", ADVICE)
def test_advice_on_memory_fits_who_started_the_workers(case):
    compute, elsewhere, words = ADVICE[case]
    assert words in more_memory(compute, elsewhere, "2.1GB or more")
    assert "2.1GB" not in more_memory(compute, elsewhere, None)
    assert ("--memory-limit" in words) or case in ("in this process", "gateway", "an address", "a client at hand")


def test_a_job_too_large_for_anothers_workers_says_whose_they_are(refuses):
    with (
        open_client(Compute("threads", 1, "1GB")) as client,
        refuses("needs 2.6 GB", "somebody else", "with 2.6GB or"),
        open_client(Compute()),
    ):
        require_memory("a task", 1_500_000_000, smallest_memory(client, Compute()))


def test_the_client_at_hand_is_used_and_left_open():
    said = []
    with open_client(Compute("threads", 1)) as mine:
        with open_client(Compute(), said.append) as theirs:
            assert theirs is mine
        assert mine.status == "running"
        with open_client(Compute("threads", 1)) as named:
            assert named is not mine
    assert said[0] == f"using the client at hand, of the scheduler at {said[0].rsplit(' ', 1)[1]}"


def test_a_local_cluster_listens_on_loopback_only_and_tells_its_dashboard():
    said = []
    with open_client(Compute("local", 1), said.append) as client:
        assert "127.0.0.1" in address_of(client)
        here = psutil.Process()
        listening = {
            connection.laddr.ip
            for process in (here, *here.children(recursive=True))
            for connection in process.net_connections("inet")
            if connection.status == psutil.CONN_LISTEN
        }
        (line,) = said
    assert listening == {"127.0.0.1"}
    assert line.startswith("dashboard: http://127.0.0.1:")


@pytest.mark.parametrize(("address", "open_to_all"), [
    ("tcp://127.0.0.1:8786", False), ("tcp://[::1]:8786", False), ("tcp://localhost:8786", False),
    ("tls://10.0.0.1:8786", False), ("inproc://x/1", False),
    ("tcp://10.0.0.1:8786", True), ("tcp://0.0.0.0:8786", True), ("tcp://node7:8786", True),
])  # fmt: skip
def test_a_scheduler_beyond_this_machine_is_warned_of(address, open_to_all):
    expected = pytest.warns(UserWarning, match="executes code for whoever reaches it") if open_to_all else nullcontext()
    with expected:
        warn_if_open(address)


def test_certificates_of_dasks_configuration_are_taken():
    assert security_of(Compute()) is None
    empty = dask.config.get("distributed.comm.tls")
    with dask.config.set({"distributed.comm.tls": {**empty, "ca-file": "a", "client": {"cert": "c", "key": "k"}}}):
        assert security_of(Compute()) is not None


def test_a_plan_submits_no_jobs():
    cores = len(os.sched_getaffinity(0))
    assert measuring(Compute("slurm", 500, "2GB", "1h")) == Compute("local", cores, "2GB")
    assert measuring(Compute("kubernetes")) == Compute("local", 1)


# ── jobs ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("configured", "compute", "expected"), [
    ({}, Compute("slurm", 4, "2GB"), (1, 1, "2000000000 B", [])),
    ({"cores": 8}, Compute("pbs", 4, "2GB"), (8, 8, "16000000000 B", [])),  # a worker of one thread for each core
    ({"cores": 8, "processes": 2, "memory": "10GB"}, Compute("sge"), (8, 2, "10GB", [])),
    ({"cores": 8, "processes": 2, "memory": "10GB"}, Compute("lsf", 4, "2GB"), (8, 2, "4000000000 B", [])),
    ({"walltime": "01:00:00"}, Compute("slurm", 1, "1GB"), (1, 1, "1000000000 B", [])),
    ({"walltime": "01:00:00"}, Compute("slurm", 1, "1GB", "40m"),
     (1, 1, "1000000000 B", ["--lifetime", "2400s", "--lifetime-stagger", "240s"])),
    ({"worker-extra-args": ["--lifetime", "1m"]}, Compute("slurm", 1, "1GB"),
     (1, 1, "1000000000 B", ["--lifetime", "1m"])),
    ({"worker-extra-args": ["--lifetime", "1m"]}, Compute("slurm", 1, "1GB", "40m"),
     (1, 1, "1000000000 B", ["--lifetime", "1m", "--lifetime", "2400s", "--lifetime-stagger", "240s"])),
])  # fmt: skip
def test_jobs_are_as_configured_and_asked(configured, compute, expected):
    options = job_options(compute, configured.get)
    assert (options["cores"], options["processes"], options["memory"], options["worker_extra_args"]) == expected
    assert options["scheduler_options"]["dashboard_address"] == "127.0.0.1:0"


def test_the_scheduler_of_jobs_goes_where_it_is_configured():
    options = job_options(Compute("slurm", 1, "1GB"), {"scheduler-options": {"port": 1234}}.get)
    assert options["scheduler_options"] == {"dashboard_address": "127.0.0.1:0", "port": 1234}


# ── agreement ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_versions_that_make_other_bytes_are_told():
    mine = versions()
    assert differences(mine, mine) == ""
    assert "not installed" not in mine.values()
    for name, other, told in [
        ("pairscape", "0.0.9", True), ("source files", "0123", True), ("numcodecs", mine["numcodecs"] + ".1", True),
        ("python", "3.10.1", True), ("zarr", "2.18.0", True), ("numpy", mine["numpy"] + ".1", False),
    ]:  # fmt: skip
        assert bool(differences(mine, {**mine, name: other})) is told, name
        assert (f"{name} {other} (here {mine[name]})" in differences(mine, {**mine, name: other})) is told
    assert "zarr none" in differences(mine, {name: mine[name] for name in mine if name != "zarr"})


def test_what_lies_at_a_path_in_few_words(tmp_path):
    assert describe_place(str(tmp_path / "nothing")) == "nothing"
    (tmp_path / "file").write_bytes(bytes(1234))
    assert describe_place(str(tmp_path / "file")) == "a file of 1,234 bytes"
    before = describe_place(str(tmp_path))
    (tmp_path / "other").touch()
    assert describe_place(str(tmp_path)) != before


def test_a_worker_testifies_what_it_sees(tmp_path, monkeypatch):
    monkeypatch.setattr(workers, "SEEN_SECONDS", 0.1)
    probe = Probe(str(tmp_path / ".i.zarr.probe"), "token")
    said = describe_worker([], (probe.place, probe.token))
    assert said["error"].startswith("FileNotFoundError")
    (tmp_path / ".i.zarr.probe").write_text("token")
    said = describe_worker([str(tmp_path / "e.zarr")], (probe.place, probe.token))
    assert (said["read"], said["error"], said["places"]) == ("token", "", {str(tmp_path / "e.zarr"): "nothing"})
    assert Path(probe.answer(said["worker"])).read_text() == said["worker"]


def test_a_target_that_cannot_be_written_is_refused_before_the_workers_are_asked(refuses, tmp_path):
    (tmp_path / "file").touch()
    with (
        open_client(Compute("threads", 1)) as mine,
        refuses("cannot write in"),
        workers.checked_workers(mine, [], "/proc/i.zarr", print),
    ):
        pass


# ── the same bytes ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.cluster
def test_a_client_of_the_users_own_does_the_job(expression_path, tmp_path):
    """Where it runs is not named: the cluster that this Python has is used, asked what it sees, and left open."""
    run(expression_path, tmp_path / "truth.zarr", binning=FINE)
    with LocalCluster(1, threads_per_worker=1, dashboard_address="127.0.0.1:0") as theirs, Client(theirs) as own:
        with open_client(Compute(), reads=[expression_path], writes=tmp_path / "i.zarr") as client:
            run(expression_path, tmp_path / "i.zarr", binning=FINE, session=Session(client))
        assert own.status == "running"
    assert store_hash(tmp_path / "i.zarr") == store_hash(tmp_path / "truth.zarr")


def test_a_name_is_no_secret():
    """Every platform that the error names is one that the door opens."""
    with pytest.raises(InputError) as caught:
        Compute("nowhere")
    assert all(name in str(caught.value) for name in (*clusters.QUEUES, *clusters.HERE, "kubernetes", "gateway"))
