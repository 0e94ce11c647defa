"""What `train` says beforehand of its time: once, before the first epoch ends, and without a change to any weight."""

import re
from dataclasses import replace

import pytest

from model_fixtures import kinds_store, small_store
from pairscape.model.batches.many import join_stores
from pairscape.model.batches.many_folds import any_folds
from pairscape.model.options import Recipe, Training
from pairscape.model.training.duration import Foretelling, Timed, try_scoring
from pairscape.model.training.repeat import plan_repeats, train_repeats
from pairscape.model.training.run import train_run
from pairscape.pipeline.compute.progress import Silent
from pairscape.pipeline.compute.session import Session

QUICK = Recipe(training=Training(epochs=3, batch_size=8))
LINE = re.compile(r"training takes (about|at most) [\d.]+ (s|min|h|days): (up to )?\d+ epochs")


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return small_store(tmp_path_factory.mktemp("duration"))


class Clock:
    """Seconds that pass as a test says."""

    now = 0.0

    def __call__(self):
        return self.now


def told(settings, tried, *, batch_seconds, batches=100, before=0, runs=1):
    """Lines of a training of so many batches of 10 images an epoch, and the batch after which each was said."""
    said, clock = [], Clock()
    progress = Foretelling(Silent(), lambda *lines: said.extend((done, line) for line in lines), settings, tried, runs,
                           clock)  # fmt: skip
    progress.start("trying network", 0)
    progress.start("training", settings.epochs * batches * 10)
    done = 0
    progress.advance(before * batches * 10)
    for done in range(1, batches * (settings.epochs - before) + 1):
        clock.now += batch_seconds if done > 1 else 100.0  # the first waits for the images
        progress.advance(10)
    progress.start("scoring pairs", 10_000)
    progress.advance(10_000)
    return said


def test_it_is_said_once_before_the_first_epoch_ends():
    ((after, line),) = told(Training(epochs=10, patience=10), Timed(2.0, 30.0), batch_seconds=0.2)
    assert 20 <= after < 100
    assert line == "training takes about 4.2 min: 10 epochs of 22.0 s, and 30.0 s for the test"


def test_epochs_that_patience_may_save_make_it_a_most():
    ((_, line),) = told(Training(epochs=10, patience=4), Timed(2.0, 30.0), batch_seconds=0.2)
    assert line == "training takes at most 4.2 min: up to 10 epochs of 22.0 s, and 30.0 s for the test"


def test_an_interrupted_training_says_what_is_left():
    ((_, line),) = told(Training(epochs=10, patience=10), Timed(2.0, 30.0), batch_seconds=0.2, before=8)
    assert line == "training takes about 74.0 s: 2 epochs of 10 left of 22.0 s, and 30.0 s for the test"


def test_runs_that_follow_are_counted():
    ((_, line),) = told(Training(epochs=10, patience=10), Timed(2.0, 30.0), batch_seconds=0.2, runs=3)
    assert line.startswith("training takes about 12.5 min: 3 runs, ")


def test_short_epochs_are_told_too_and_what_is_over_at_once_is_not():
    ((after, _),) = told(Training(epochs=10), Timed(0.0, 5.0), batch_seconds=0.2, batches=8)
    assert after < 8
    assert told(Training(epochs=2), Timed(0.0, 0.1), batch_seconds=0.001) == []


def test_what_was_not_tried_is_said_to_be_unknown():
    ((_, line),) = told(Training(epochs=10), None, batch_seconds=0.2)
    assert line.endswith("without validation and test, which were not timed")


@pytest.mark.parametrize("network", ["pairnet", "cnnc", "momentnet"])
def test_scoring_is_timed_with_the_network_of_the_recipe(images, network):
    channels = "counts" if network == "momentnet" else "log"
    recipe = replace(QUICK, training=replace(QUICK.training, network=network))
    recipe = replace(recipe, rendering=replace(recipe.rendering, channels=channels))
    tried = try_scoring(images, any_folds(images, recipe, 0), recipe)
    assert 0 < tried.validation < 60
    assert 0 < tried.test < 600


def test_networks_that_read_other_genes_are_not_tried(images):
    recipe = replace(QUICK, training=replace(QUICK.training, network="pairnet-factors"))
    assert try_scoring(images, any_folds(images, recipe, 0), recipe) is None


def test_several_stores_are_tried(tmp_path):
    stores = join_stores([kinds_store(tmp_path, seed, n_cells=60, modules=3) for seed in (0, 1)], None, [])
    assert try_scoring(stores, any_folds(stores, QUICK, 0), QUICK).test > 0


def trained(images, run, say, monkeypatch):
    """Weights of a run; however short it is, it is worth a word."""
    monkeypatch.setattr("pairscape.model.training.duration.WORTH_TELLING", 0.0)
    train_run(images, run, QUICK, 0, Session(say=say))
    return (run / "model.safetensors").read_bytes()


def test_what_is_said_changes_no_byte(images, tmp_path, monkeypatch):
    said = []
    loud = trained(images, tmp_path / "loud", lambda *lines: said.extend(lines), monkeypatch)
    assert len([line for line in said if LINE.match(line)]) == 1
    assert loud == trained(images, tmp_path / "quiet", Session().say, monkeypatch)


def test_repeats_say_how_many_follow(images, tmp_path, monkeypatch):
    monkeypatch.setattr("pairscape.model.training.duration.WORTH_TELLING", 0.0)
    said = []
    session = Session(say=lambda *lines: said.extend(lines))
    train_repeats(images, tmp_path / "runs", QUICK, plan_repeats(QUICK, (0, 1), 0), session)
    first, second = [line for line in said if line.startswith("training takes")]
    assert "2 runs, " in first
    assert "runs, " not in second
