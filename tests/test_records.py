"""`--events` and `--performance-report` on every command whose work may be done by workers."""

import json

import pytest

import pairscape
from made_runs import make_run
from model_fixtures import small_store
from typed import run_command

THREADS = ("--scheduler", "threads", "--workers", "1", "--quiet")
HERE = ("--scheduler", "synchronous", "--quiet")
JOBS = {
    "ingest": ("{s}/expression.zarr", "{t}/e.zarr", *HERE),
    "plan": ("{s}/expression.zarr", "--all-pairs", *HERE),
    "heatmaps": ("{s}/expression.zarr", "{t}/i.zarr", "--all-pairs", *HERE),
    "verify": ("{s}/images.zarr", *THREADS),
    "simulate": ("{t}/a.zarr", "--cells", "50", "--genes", "20", "--density", "0.3", *HERE),
    "predict": ("{b}/run", "{s}/expression.zarr", "{t}/s.parquet", "--all-pairs", "--codes", "{t}/c.zarr", *THREADS),
    "tune": ("{s}/images.zarr", "{t}/study", "--trials", "1", "--trial-epochs", "1", "--epochs", "1", *HERE),
}
REPORTED = ("predict", "verify")


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = tmp_path_factory.mktemp("records")
    small_store(folder)
    make_run(folder / "run", folder / "small" / "images.zarr")
    return folder


def test_whoever_may_have_workers_keeps_records():
    commands = [getattr(pairscape, name) for name in pairscape.__all__ if name not in ("__version__", "app", "main")]
    options = {command.__name__: set(command.__signature__.parameters) for command in commands}
    with_workers = {name for name, known in options.items() if "workers" in known}
    assert with_workers == set(JOBS)
    assert {name for name, known in options.items() if {"events", "performance_report"} <= known} == with_workers


@pytest.mark.parametrize("command", JOBS)
def test_a_job_leaves_its_records(base, tmp_path, command):
    words = [word.format(b=base, s=base / "small", t=tmp_path) for word in JOBS[command]]
    if command in REPORTED:
        words += ["--performance-report", tmp_path / "report.html"]
    assert run_command(command, *words, "--events", tmp_path / "log") == 0
    first, *events, last = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    assert (first["event"], first["command"], last["event"], last["ok"]) == ("start", command, "end", True)
    tasks = [event for event in events if event["event"] == "task"]
    assert tasks or command == "ingest"
    assert len({event["worker"] for event in tasks}) <= 1
    if command in REPORTED:
        assert b"Dask Performance Report" in (tmp_path / "report.html").read_bytes()


@pytest.mark.parametrize("command", [command for command in JOBS if command not in REPORTED])
def test_a_report_on_no_workers_is_refused(base, tmp_path, capsys, command):
    words = [word.format(b=base, s=base / "small", t=tmp_path) for word in JOBS[command]]
    assert run_command(command, *words, "--performance-report", tmp_path / "report.html") == 2
    assert "--scheduler synchronous starts none; give local" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
