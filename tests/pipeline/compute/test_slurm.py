"""Jobs of a real SLURM: the shipped script and configuration, workers cancelled midway, queues that refuse."""

import os
import shutil
import sys
from pathlib import Path

import dask
import pytest
import yaml

from conftest import simulated, store_expression
from engines import ROOT, missing, wait_for
from heatmap_jobs import FINE, run, store_hash
from pairscape.pipeline.compute.clusters import open_client
from pairscape.pipeline.options import Compute
from slurm_engine import slurm as started

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch")
pytestmark = [pytest.mark.cluster, pytest.mark.skipif(bool(missing(*PROGRAMS)), reason=missing(*PROGRAMS))]
pytest.importorskip("dask_jobqueue")


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    with started(tmp_path_factory.mktemp("slurm")) as found, pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLURM_CONF", found.environment["SLURM_CONF"])
        yield found


@pytest.fixture
def submit_folder(tmp_path):
    """deploy/slurm as README.md says to take it: copied, and jobqueue.yaml adapted to the cluster."""
    folder = shutil.copytree(ROOT / "deploy/slurm", tmp_path / "submit")
    shutil.copy(ROOT / "deploy/tls/certificates.sh", folder)
    settings = yaml.safe_load((folder / "jobqueue.yaml").read_text())
    settings["jobqueue"]["slurm"] |= {"cores": 1, "processes": 1, "interface": "lo", "walltime": "00:30:00"}
    (folder / "jobqueue.yaml").write_text(yaml.safe_dump(settings))
    return folder


def submitted(slurm, folder, *arguments, **settings):
    """Number of a job of the shipped script."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    exported = {"PATH": path, "PYTHONPATH": str(ROOT)} | settings
    names = ",".join(f"{name}={value}" for name, value in exported.items())
    said = slurm("sbatch", "--parsable", f"--chdir={folder}", f"--export={names}", f"{folder}/pairscape.sbatch",
                 *map(str, arguments))  # fmt: skip
    return said.strip()


def state(slurm, job):
    facts = slurm("scontrol", "--oneliner", "show", "job", job).split()
    return next(fact for fact in facts if fact.startswith("JobState=")).removeprefix("JobState=")


def ended(slurm, job):
    return state(slurm, job) not in ("PENDING", "CONFIGURING", "RUNNING", "COMPLETING")


def test_half_of_the_workers_cancelled_midway_and_the_same_bytes(slurm, submit_folder, tmp_path):
    """The shipped script; what is cancelled is submitted again, and at the end no job is left."""
    expression = store_expression(tmp_path / "e.zarr", simulated(150, 110))  # 5,995 pairs, 24 shards
    run(expression, tmp_path / "truth.zarr", binning=FINE)
    target = tmp_path / "i.zarr"
    job = submitted(slurm, submit_folder, "heatmaps", expression, target, "--all-pairs", "--scale", "rank", "--bins",
                    "130", WORKERS="4", MEMORY="1GB")  # fmt: skip
    log = submit_folder / f"pairscape-{job}.log"
    wait_for(lambda: ended(slurm, job) or list(target.glob("receipts/*")), f"first shard ({log})")
    assert state(slurm, job) == "RUNNING", log.read_text()
    workers = slurm.jobs("pairscape-worker")
    assert len(workers) == 4
    slurm("scancel", *workers[:2])
    wait_for(lambda: ended(slurm, job), f"end of the job ({log})", 120)
    said = log.read_text()
    assert state(slurm, job) == "COMPLETED", said
    assert "submitting 4 such jobs, 4 workers" in said
    assert "#SBATCH --mem=954M" in said  # the job script is shown before it is submitted
    assert "--lifetime 110m --lifetime-stagger 4m" in said  # as the job file that ships configures it
    assert " tls://127.0.0.1:" in said
    assert store_hash(target) == store_hash(tmp_path / "truth.zarr")
    wait_for(lambda: not slurm.jobs("pairscape-worker", "RUNNING,PENDING"), "end of the workers")
    assert not list(submit_folder.glob(".tls-*"))


def test_what_ends_is_submitted_again(slurm, tmp_path, monkeypatch):
    """A worker that ends by itself, as before its walltime, is replaced; so is one whose job is cancelled."""
    monkeypatch.chdir(tmp_path)
    here = {"jobqueue.slurm.interface": "lo", "distributed.deploy.lost-worker-timeout": "200ms"}
    monkeypatch.setattr("pairscape.pipeline.compute.queues.RENEW_MS", 300)
    with dask.config.set(here), open_client(Compute("slurm", 1, "1GB", lifetime="4s")) as client:
        seen, job = set(client.nthreads()), slurm.jobs("dask-worker")
        wait_for(lambda: set(client.nthreads()) - seen, "second worker")
        seen |= set(client.nthreads())
        assert slurm.jobs("dask-worker") != job
        slurm("scancel", *slurm.jobs("dask-worker"))
        wait_for(lambda: set(client.nthreads()) - seen, "third worker")
    wait_for(lambda: not slurm.jobs("dask-worker", "RUNNING,PENDING"), "end of the workers")


def test_a_queue_that_refuses_says_so_at_once(slurm, refuses, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with (
        dask.config.set({"jobqueue.slurm.queue": "nowhere", "jobqueue.slurm.interface": "lo"}),
        refuses("slurm takes no jobs of ours here", "invalid partition"),
        open_client(Compute("slurm", 1, "1GB")),
    ):
        pass
