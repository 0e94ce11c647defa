"""`universal` names the network that comes with the package, or a run of the user's of that name."""

import shutil
from pathlib import Path

import pytest

import pairscape
from model_fixtures import curved_store
from pairscape.model.networks import bundled
from pairscape.model.networks.bundled import NAME, bundled_folder, find_run, run_folder
from pairscape.model.prediction.trained import TrainedRun
from pairscape.pipeline.errors import InputError


def found(named):
    said = []
    return find_run(named, lambda *lines: said.extend(lines)), said


def test_the_network_is_there_and_small():
    run = TrainedRun.open(bundled_folder())
    assert (run.name, run.names_kinds) == (NAME, True)
    assert run_folder(run.name) == run.folder
    assert sum(path.stat().st_size for path in run.folder.iterdir()) < 1_000_000
    assert {"config.toml", "metrics.json", "model-card.md"} <= {path.name for path in run.folder.iterdir()}


@pytest.mark.parametrize("own", ["nothing", "a folder of something else"])
def test_the_name_means_the_network_of_the_package(own, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if own != "nothing":
        (tmp_path / NAME).mkdir()
        (tmp_path / NAME / "notes.txt").write_text("mine")
    run, said = found(NAME)
    assert run == bundled_folder()
    assert "comes with Pairscape" in said[0]


@pytest.mark.parametrize("files", [["model.safetensors"], ["model.safetensors", "config.toml", "metrics.json"]])
def test_an_own_run_of_that_name_goes_first_and_it_is_said(files, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / NAME).mkdir()
    for file in files:
        shutil.copy(bundled_folder() / file, tmp_path / NAME)
    run, said = found(NAME)
    assert run.absolute() == tmp_path / NAME
    assert str(tmp_path / NAME) in said[0]
    assert TrainedRun.open(run).name == str(tmp_path / NAME)


@pytest.mark.parametrize("named", ["run", "runs/universal", "./universal", "s3://bucket/universal", Path("run")])
def test_any_other_name_stays_what_it_is(named):
    assert found(named) == (named, [])


def test_an_installation_without_it_says_so(tmp_path, monkeypatch, refuses):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(bundled, "files", lambda _: tmp_path / "package")
    with refuses("universal", "lacks the network", "install Pairscape again"):
        pairscape.predict(NAME, "cells.h5ad", "s.parquet")


def test_it_has_no_report_of_its_training(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"model-card\.md"):
        pairscape.report(NAME)
    assert not list(bundled_folder().glob("*.html"))


def test_it_is_evaluated_into_the_working_directory(tmp_path, tmp_path_factory, monkeypatch):
    monkeypatch.chdir(tmp_path)
    facts = TrainedRun.open(bundled_folder()).network.facts
    store = curved_store(tmp_path_factory.mktemp("curved"), bins=facts.bins)
    before = sorted(bundled_folder().iterdir())
    metrics = pairscape.evaluate(NAME, store.path, quiet=True)
    assert 0 <= metrics["test"]["auroc"] <= 1
    assert (tmp_path / "universal-on-images/report.html").is_file()
    assert sorted(bundled_folder().iterdir()) == before
