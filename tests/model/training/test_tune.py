"""The search tries the recipe it was given first, never looks at the test fold, and goes on after a kill."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from uuid import uuid4

import numpy as np
import optuna
import pytest
import torch
from optuna.trial import FixedTrial, TrialState

import pairscape
from model_fixtures import make_store, module_expression, module_pairs, run_command, small_store
from pairscape.model.networks.weights import read_recipe
from pairscape.model.options import Recipe, Rendering, Search, Splitting, Training
from pairscape.model.training.tune import _open, point_of, propose
from pairscape.pipeline.errors import InputError
from pairscape.pipeline.options import Binning, Compute, PairSource

HERE = Compute("synchronous")
QUICK = Training(epochs=2, batch_size=96)
SEARCH = Search(trials=3, trial_epochs=2, networks=("pairnet",))


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.getbasetemp()


@pytest.fixture(scope="module")
def images(root):
    """630 labelled pairs of 36 genes, 9 % positive: a search trains a dozen networks."""
    folder = root / "tune"
    folder.mkdir()
    expression, module = module_expression(100, 9, 4, seed=3)
    pairs = module_pairs(folder / "pairs.csv", module)
    return make_store(folder / "store", expression, PairSource(pairs=pairs), Binning("rank", 16))


def search(images, folder, *, search=SEARCH, training=QUICK, seed=0, compute=HERE):
    return pairscape.tune(images.path, folder, search=search, training=training, seed=seed, compute=compute, quiet=True)


def table(folder):
    with (folder / "trials.csv").open() as file:
        return list(csv.DictReader(file))


def without_time(folder):
    return [{name: value for name, value in row.items() if name != "seconds"} for row in table(folder)]


@pytest.fixture(scope="module")
def study(root, images):
    folder = root / "tune" / "study"
    search(images, folder)
    return folder


def test_the_first_trial_is_the_recipe_as_given(study):
    first = table(study)[0]
    assert [first[name] for name in ("channels", "network", "loss")] == ["log+residual", "pairnet", "cross-entropy"]
    assert float(first["learning_rate"]) == QUICK.learning_rate
    recipe, seed = read_recipe(study / "trials" / "0000" / "config.toml")
    assert recipe == replace(Recipe(training=QUICK), training=replace(QUICK, epochs=SEARCH.trial_epochs))
    assert seed == 0


def test_the_best_is_no_worse_than_the_default_and_is_trained_in_full(study):
    found = json.loads((study / "study.json").read_text())
    assert found["trials"] == 3
    assert found["best"]["score"] == max(float(row["score"]) for row in table(study)) >= found["default"]["score"]
    recipe, _ = read_recipe(study / "best" / "config.toml")
    assert recipe.training.epochs == QUICK.epochs
    assert recipe.rendering.channels == found["best"]["parameters"]["channels"]
    assert found["test"] == json.loads((study / "best" / "metrics.json").read_text())["test"]


def test_a_score_is_the_best_validation_score_of_its_trial(study):
    for row in table(study):
        with (study / "trials" / f"{int(row['trial']):04d}" / "history.csv").open() as file:
            history = [float(line["validation_average_precision"]) for line in csv.DictReader(file)]
        assert float(row["score"]) == pytest.approx(max(history))
        assert int(row["epochs"]) == len(history)


def test_the_report_shows_every_trial_and_loads_nothing(study):
    page = (study / "report.html").read_text()
    assert page.count("<tr") == 1 + 3
    assert "best/report.html" in page
    assert "<script" not in page
    assert page.count("<svg") >= 1


def test_the_same_seed_gives_the_same_search_and_another_seed_another(root, images, study):
    search(images, root / "tune" / "again")
    assert without_time(root / "tune" / "again") == without_time(study)
    search(images, root / "tune" / "other", seed=1, search=replace(SEARCH, trials=2))
    assert without_time(root / "tune" / "other")[1] != without_time(study)[1]


def test_more_trials_go_on_where_it_ended(root, images):
    folder = root / "tune" / "more"
    search(images, folder, search=replace(SEARCH, trials=1))
    kept = without_time(folder)
    (folder / f"journal.log.lock{uuid4()}.rename").touch()  # what a kill leaves while Optuna gives its lock back
    search(images, folder, search=replace(SEARCH, trials=3))
    rows = without_time(folder)
    assert rows[0] == kept[0]
    assert len(rows) == 3
    assert rows[1]["learning_rate"] != rows[2]["learning_rate"]


@pytest.mark.cluster
def test_a_search_survives_a_kill(root, images):
    """Killed in the middle of its second trial, with its workers: the first is kept, the second tried again."""
    folder = root / "tune" / "killed"
    command = [sys.executable, "-m", "pairscape", "tune", images.path, folder, "--trials", "3", "--trial-epochs", "2"]
    options = ["--networks", "pairnet", "--epochs", "2", "--batch-size", "96", "--workers", "1", "--quiet"]
    with subprocess.Popen([*map(str, command), *options], start_new_session=True) as process:
        deadline, journal = time.monotonic() + 200, folder / "journal.log"
        begun = folder / "trials" / "0001" / "history.csv"  # which a worker may do before the first is told
        while not (begun.exists() and '"trial_id":0,"state":1' in journal.read_text()):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
        os.killpg(process.pid, signal.SIGKILL)
    assert not (folder / "study.json").exists()
    written = (folder / "trials" / "0000" / "model.safetensors").stat().st_mtime_ns
    found = search(images, folder, training=QUICK, compute=Compute("local", 1))
    assert found["trials"] == 3
    assert (folder / "trials" / "0000" / "model.safetensors").stat().st_mtime_ns == written
    again = [row for row in table(folder) if row["trial"] != "0"]
    assert len({row["learning_rate"] for row in again}) == 2


@pytest.mark.cluster
def test_workers_find_what_one_process_finds(root, images, study):
    """The first trials, whose proposals wait for no result."""
    folder = root / "tune" / "workers"
    search(images, folder, compute=Compute("local", 1))
    assert without_time(folder) == without_time(study)


def test_a_score_does_not_depend_on_the_threads_around(root, images, study):
    """A process that trains on two threads sums floats in another order than a worker, which has one."""
    folder, before = root / "tune" / "threads", torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        search(images, folder, search=replace(SEARCH, trials=1))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert without_time(folder) == without_time(study)[:1]


def test_a_hopeless_trial_is_stopped_early(root, images, monkeypatch):
    monkeypatch.setattr("pairscape.model.training.tune.UNPRUNED", 1)
    hopeless = {"learning_rate": 1e-4, "channels": "log", "sigma": 2.0}
    folder, once = root / "tune" / "pruned", replace(SEARCH, trials=1, trial_epochs=4)
    search(images, folder, search=once)
    study = _open(folder, images, Recipe(training=QUICK), once, 0)
    study.enqueue_trial(point_of(Recipe(training=QUICK)) | hopeless)
    found = search(images, folder, search=replace(once, trials=2))
    assert [row["state"] for row in table(folder)] == ["complete", "pruned"]
    assert int(table(folder)[1]["epochs"]) < 4
    assert found["pruned"] == 1
    assert found["best"]["number"] == 0


def test_every_proposal_is_a_recipe_that_the_store_can_be_trained_with(root):
    """Drawn at random: no pool beyond what a network sees, and every value lies in the space."""
    for bins, pools in ((16, {1}), (32, {1, 2}), (64, {1, 2, 4}), (50, {1, 2})):
        study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
        recipes = [propose(study.ask(), Recipe(), Search(balances=("down", "natural")), bins) for _ in range(60)]
        assert {recipe.rendering.pool for recipe in recipes} == pools
        assert {recipe.training.network for recipe in recipes} == {"pairnet", "cnnc"}
        assert {recipe.training.balance for recipe in recipes} == {"down", "natural"}
        assert all(0 <= recipe.rendering.sigma <= 2 for recipe in recipes)


@pytest.mark.parametrize(
    "base",
    [
        Recipe(),
        Recipe(
            Rendering("counts", sigma=16.0), training=Training("deep-cell-1", balance="natural", learning_rate=0.05)
        ),
    ],
)
def test_any_recipe_is_a_point_of_its_own_space(base):
    assert propose(FixedTrial(point_of(base)), base, Search(), 32) == base


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"trials": 0}, "trials is 0"),
        ({"trial_epochs": 0}, "trial epochs is 0"),
        ({"networks": ()}, "networks is empty"),
        ({"losses": ()}, "losses is empty"),
    ],
)
def test_a_search_that_cannot_be_is_refused(change, words, refuses):
    with refuses(words):
        replace(Search(), **change)


def test_a_folder_of_something_else_is_refused(root, images, tmp_path, refuses):
    (tmp_path / "thesis.txt").write_text("years of work")
    with refuses(str(tmp_path), "Pairscape did not make it"):
        search(images, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize("change", [{"seed": 3}, {"training": replace(QUICK, batch_size=50)}])
def test_another_search_in_the_same_folder_is_refused(study, images, change, refuses):
    with refuses(str(study), "another store, recipe, search or seed"):
        search(images, study, **change)


def test_another_store_is_refused(root, study, refuses):
    with refuses("another store"):
        search(small_store(root), study)


def test_an_unknown_network_is_refused_before_anything_is_written(images, tmp_path):
    folder = tmp_path / "study"
    assert run_command("tune", images.path, folder, "--networks", "resnet", "--scheduler", "synchronous") == 2
    assert not folder.exists()


def test_trials_that_were_under_way_are_proposed_again(root, images):
    folder, job = root / "tune" / "underway", (Recipe(training=QUICK), SEARCH, 0)
    folder.mkdir(parents=True)
    study = _open(folder, images, *job)
    lost = study.ask()
    propose(lost, *job[:2], 16)
    unchecked = replace(job[0], splitting=replace(job[0].splitting, min_matched=0.1))  # a check makes no other search
    again = _open(folder, images, unchecked, *job[1:])
    assert [trial.state for trial in again.trials] == [TrialState.FAIL, TrialState.WAITING]
    renewed = again.ask()
    propose(renewed, *job[:2], 16)
    assert renewed.params == lost.params


def test_the_default_is_known_also_after_it_was_lost_in_a_kill(root, images):
    """Another trial ended before the kill: it is not taken for the default."""
    folder, base = root / "tune" / "default", Recipe(training=QUICK)
    folder.mkdir(parents=True)
    study = _open(folder, images, base, SEARCH, 0)
    lost, ended = study.ask(), study.ask()
    for trial in (lost, ended):
        propose(trial, base, SEARCH, 16)
    study.tell(ended, 0.01)
    found = search(images, folder, search=replace(SEARCH, trials=2))
    assert found["default"]["number"] == 2
    assert found["default"]["parameters"] == point_of(base)


def test_a_search_over_folds_of_a_file(root, images):
    file = root / "tune" / "folds.csv"
    genes = images.array("gene").tolist()
    words = np.array(["train", "validation", "test"])[np.arange(len(genes)) % 3]
    file.write_text("gene,fold\n" + "".join(f"{gene},{word}\n" for gene, word in zip(genes, words, strict=True)))
    options = {"splitting": Splitting("file", fold_file=file), "search": replace(SEARCH, trials=1, trial_epochs=1)}
    for _ in range(2):  # the second finds its study again
        found = pairscape.tune(
            images.path, root / "tune" / "of-file", training=QUICK, compute=HERE, quiet=True, **options
        )
    assert found["trials"] == 1


def test_scores_of_nothing_learned_do_not_stop_the_search(images, root):
    """A rate at which the loss explodes: the trial counts as 0, the search goes on."""
    found = search(
        images, root / "tune" / "exploded", training=replace(QUICK, optimizer="sgd", learning_rate=1e12),
        search=replace(SEARCH, trials=1),
    )  # fmt: skip
    assert np.isfinite(found["best"]["score"])


def test_refusals_are_input_errors(images, tmp_path):
    with pytest.raises(InputError, match="unknown"):
        search(images, tmp_path / "study", training=replace(QUICK, network="resnet"))
    assert not (tmp_path / "study").exists()
