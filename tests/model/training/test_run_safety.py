"""Run folders are as safe as stores: what is unfinished, edited or of another run is not used, and never two write."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

import pairscape
from heatmap_jobs import contents
from made_runs import earlier, make_run
from model_fixtures import run_command, small_store
from pairscape.model.networks.weights import MODEL, load_weights, save_tensors
from pairscape.model.options import Training
from pairscape.pipeline.errors import InputError, JobError
from pairscape.pipeline.storage.lock import locked
from pairscape.pipeline.storage.results import RECEIPT, look, result_folder

HERE = ("--all-pairs", "--scheduler", "synchronous", "--quiet")


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A small store of images, and two finished runs on it."""
    folder = tmp_path_factory.mktemp("runs")
    small_store(folder)
    for name, seed in (("run", 0), ("other", 1)):
        make_run(folder / name, folder / "small" / "images.zarr", seed)
    return folder


@pytest.fixture
def run(base, tmp_path):
    return Path(shutil.copytree(base / "run", tmp_path / "run"))


def readers(base, run):
    """Commands that use a trained run."""
    stores = base / "small"
    yield "predict", run, stores / "expression.zarr", run.parent / "s.parquet", "--codes", run.parent / "c.zarr", *HERE
    yield "evaluate", run, stores / "images.zarr", "--out", run.parent / "out", "--quiet"
    yield "report", run


def refused(base, run, capfd, *words, commands=("predict", "evaluate", "report")):
    """Every reader ends with status 2 and a line of these words, and writes nothing."""
    before = contents(run.parent)
    for command in readers(base, run):
        if command[0] in commands:
            assert run_command(*command) == 2, command[0]
            line = capfd.readouterr().err.splitlines()[-1]
            assert line.startswith("pairscape: ")
            assert [word for word in words if word not in line] == [], line
    assert contents(run.parent) == before


# ── what was trusted once is checked again ───────────────────────────────────────────────────────────────────────────


def edited(name, old, new):
    def edit(run, _):
        (run / name).write_text((run / name).read_text().replace(old, new))

    return edit


def of_the_other(name):
    return lambda run, base: shutil.copyfile(base / "other" / name, run / name)


def weights(change):
    """Weights that are others, described as if the training had written them."""

    def edit(run, _):
        state, facts, _sha = load_weights(run / "model.safetensors")
        save_tensors(run / "model.safetensors", MODEL, change(dict(state)), facts)
        earlier(run)

    return edit


def with_value(value):
    def change(state):
        name = next(name for name, tensor in state.items() if tensor.is_floating_point())
        state[name] = state[name].clone()
        state[name].view(-1)[0] = value
        return state

    return change


def without_one(state):
    return dict(list(state.items())[1:])


def with_one_more(state):
    return state | {"network.more": torch.zeros(3)}


def first(change):
    return lambda state: {name: change(x) if i == 0 else x for i, (name, x) in enumerate(state.items())}


def newer(run, _):
    said = json.loads((run / RECEIPT).read_text())
    (run / RECEIPT).write_text(json.dumps(said | {"format_version": 2}))


def of_other_weights(run, _):
    """In a folder without a receipt, the figures still say of which weights they are."""
    metrics = json.loads((run / "metrics.json").read_text())
    (run / "metrics.json").write_text(json.dumps(metrics | {"weights": "0" * 64}))
    earlier(run)


NETWORK = ("predict", "evaluate")
CHANGED = {
    "config.toml: another seed": (edited("config.toml", "seed = 0", "seed = 7"), ("config.toml",)),
    "config.toml: another rendering": (edited("config.toml", "log+residual", "log"), ("config.toml",)),
    "config.toml of another run": (of_the_other("config.toml"), ("config.toml",)),
    "metrics.json: a threshold": (edited("metrics.json", "[]", '[{"aim": "x", "threshold": 0.1}]'), ("metrics.json",)),
    "metrics.json: a space": (edited("metrics.json", "{", "{ "), ("metrics.json",)),
    "metrics.json of other weights": (of_other_weights, ("metrics.json", "other weights"), ("predict",)),
    "model.safetensors of another run": (of_the_other("model.safetensors"), ("model.safetensors",)),
    "a weight that is no number": (weights(with_value(float("nan"))), ("model.safetensors", "finite"), NETWORK),
    "a weight without an end": (weights(with_value(float("inf"))), ("model.safetensors", "finite"), NETWORK),
    "a weight is missing": (weights(without_one), ("is missing",), NETWORK),
    "a weight too many": (weights(with_one_more), ("none of its weights",), NETWORK),
    "a weight of another shape": (weights(first(lambda x: torch.cat([x, x]))), ("not float32",), NETWORK),
    "a weight of another type": (weights(first(lambda x: x.double())), ("float64",), NETWORK),
    "a receipt of a later version": (newer, ("version 2",)),
}  # fmt: skip


@pytest.mark.parametrize("case", CHANGED)
def test_what_was_changed_since_the_training_is_noticed(base, run, capfd, case):
    change, words, *commands = CHANGED[case]
    change(run, base)
    refused(base, run, capfd, *words, commands=commands[0] if commands else ("predict", "evaluate", "report"))


def test_a_run_as_it_was_and_one_of_an_earlier_version_are_used(base, run):
    for name in ("now", "then"):
        copy = run.with_name(name)
        shutil.copytree(run, copy)
        if name == "then":
            earlier(copy)
        pairscape.evaluate(copy, base / "small" / "images.zarr", out=run.with_name(f"{name}-out"), quiet=True)
    assert look(run.with_name("now-out")).holds == "evaluation"


# ── unfinished ───────────────────────────────────────────────────────────────────────────────────────────────────────


def without(*names):
    def change(run):
        for name in names:
            (run / name).unlink()

    return change


def begun(run):
    said = json.loads((run / RECEIPT).read_text())
    (run / RECEIPT).write_text(json.dumps(said | {"finished": False, "files": {}}))


WEIGHTS = ("model.safetensors", "metrics.json", "report.html")
KILLED = {  # what of a run is there
    "before it began": (begun, without("config.toml", "history.csv", *WEIGHTS)),
    "in its first epoch": (begun, without(*WEIGHTS)),
    "in its second epoch": (begun, without("metrics.json", "report.html", "predictions.parquet")),
    "before its report": (begun, without("report.html")),
    "at its very end": (begun,),
    "an earlier version's": (earlier, without("metrics.json", "report.html", "predictions.parquet")),
}


@pytest.mark.parametrize("case", KILLED)
def test_what_a_killed_training_leaves_is_not_used(base, run, capfd, case):
    for change in KILLED[case]:
        change(run)
    refused(base, run, capfd, "unfinished", commands=("predict", "evaluate"))


@pytest.mark.parametrize("case", KILLED)
def test_the_same_command_begins_anew_and_says_so(base, run, monkeypatch, capfd, case):
    for change in KILLED[case]:
        change(run)
    (run / f".model.safetensors.{2**62}").write_bytes(b"half a file")

    def trained(images, folds, folder, *_):
        assert {path.name for path in folder.iterdir()} == {RECEIPT}
        return {}

    monkeypatch.setattr("pairscape.model.training.run._train", trained)
    monkeypatch.setattr("pairscape.model.commands._close", lambda *_: None)
    pairscape.train(base / "small" / "images.zarr", run)
    assert "unfinished" in capfd.readouterr().out
    assert look(run).finished


def test_a_training_that_is_killed(base, tmp_path, capfd):
    """For real: SIGKILL in the middle; its folder does not predict, and its epochs are not lost to another recipe."""
    run, images = tmp_path / "run", base / "small" / "images.zarr"
    command = "from pairscape.command_line import main; main()"
    words = [sys.executable, "-c", command, "train", images, run, "--epochs", "500", "--patience", "500", "--quiet"]
    with subprocess.Popen(list(map(str, words)), stderr=subprocess.PIPE) as process:
        while not (run / "model.safetensors").exists():
            assert process.poll() is None
            time.sleep(0.05)
        assert run_command("train", images, run, "--overwrite") == 1
        assert f"is being written by process {process.pid}" in capfd.readouterr().err
        os.kill(process.pid, signal.SIGKILL)
    refused(base, run, capfd, "unfinished", commands=("predict", "evaluate"))
    before = contents(run)
    assert run_command("train", images, run, "--epochs", "1") == 2
    assert "unfinished training of another recipe" in capfd.readouterr().err
    assert contents(run) == before
    pairscape.train(images, run, training=Training(epochs=1), overwrite=True, quiet=True)
    assert look(run).finished
    assert len((run / "history.csv").read_text().splitlines()) == 2


# ── never two ────────────────────────────────────────────────────────────────────────────────────────────────────────

WRITERS = {
    "train": lambda base, run: ("train", base / "small/images.zarr", run),
    "train --overwrite": lambda base, run: ("train", base / "small/images.zarr", run, "--overwrite"),
    "train --seeds": lambda base, run: ("train", base / "small/images.zarr", run, "--seeds", 2),
    "evaluate": lambda base, run: ("evaluate", base / "run", base / "small/images.zarr", "--out", run),
    "tune": lambda base, run: ("tune", base / "small/images.zarr", run, "--trials", 1, "--scheduler", "synchronous"),
}


@pytest.mark.parametrize("case", WRITERS)
def test_a_second_writer_is_refused(base, tmp_path, capfd, case):
    run = tmp_path / "run"
    with locked(run):
        before = contents(tmp_path)
        assert run_command(*WRITERS[case](base, run)) == 1
        assert "is being written by process" in capfd.readouterr().err
        assert contents(tmp_path) == before


def test_a_refusal_inside_leaves_the_folder_as_it_was(tmp_path):
    for name, finished in (("new", False), ("kept", True)):
        if finished:
            with result_folder(tmp_path / name, "study"):
                pass
        before = contents(tmp_path)
        with pytest.raises(InputError), result_folder(tmp_path / name, "study", resume=True):
            raise InputError("another study")
        assert contents(tmp_path) == before
        assert (tmp_path / name).exists() == finished


def test_a_failure_leaves_an_unfinished_result(tmp_path):
    with pytest.raises(JobError), result_folder(tmp_path / "run", "network"):
        raise JobError("no space left")
    assert not look(tmp_path / "run").finished
