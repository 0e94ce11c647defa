"""An interrupted training goes on: at most one epoch is made again, and the bytes are those of one piece.

For real, by SIGKILL, in tests/test_benchmarks.py: `benchmarks.interrupted`.
"""

import json
import re
import shutil
import sys
from dataclasses import replace

import numpy as np
import pytest

from heatmap_jobs import contents
from made_runs import make_run
from model_fixtures import curved_store, kinds_store, small_store
from pairscape.model.batches.many import join_stores
from pairscape.model.batches.many_folds import any_folds
from pairscape.model.networks.weights import load_tensors, save_tensors
from pairscape.model.options import Recipe, Rendering, Search, Splitting, Training
from pairscape.model.training import train as train_module
from pairscape.model.training.checkpoint import KIND, read_checkpoint
from pairscape.model.training.repeat import plan_repeats, train_repeats
from pairscape.model.training.run import train_run
from pairscape.model.training.train import fit
from pairscape.model.training.tune import tune
from pairscape.pipeline.compute.progress import Silent
from pairscape.pipeline.compute.session import Session
from pairscape.pipeline.storage.results import CHECKPOINT

QUICK = Recipe(training=Training(epochs=4, batch_size=64))
CLOCKS = re.compile(r'"seconds": {[^}]*}')
MADE = ("config.toml", "model.safetensors", "predictions.parquet", "reference.safetensors", "examples.npz")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("resume")


@pytest.fixture(scope="module")
def images(root):
    return small_store(root)


class Counting(Silent):
    """Progress that knows how many epochs of a training were made in this call."""

    shown, known = 0, None
    counts = ("training",)

    def start(self, stage, total):
        self.is_counted = stage in self.counts
        if self.is_counted:
            self.total, self.known = total, None

    def advance(self, units):
        if self.is_counted and self.known is None:
            self.known = units  # that an earlier call did
        elif self.is_counted:
            self.shown += units

    @property
    def epochs(self):
        return 4 * self.shown / self.total


class Interrupting(Counting):
    """Progress that is interrupted after so many epochs, those of earlier calls among them, of four or so."""

    def __init__(self, epochs, per_run=4):
        self.after, self.per_run = epochs, per_run

    def advance(self, units):
        super().advance(units)
        if self.is_counted and (self.known + self.shown) > self.after * self.total / self.per_run:
            raise KeyboardInterrupt


class Saying(list):
    """Lines that were said."""

    def __call__(self, *lines):
        self.extend(lines)


def learned(run):
    """Weights, and history without its clock."""
    return (run / "model.safetensors").read_bytes(), [
        line.rsplit(",", 1)[0] for line in (run / "history.csv").read_text().splitlines()
    ]


def same(one, other):
    """Two whole runs have the same bytes, but for clocks, and nothing is left over."""
    assert learned(one) == learned(other)
    for name in MADE:
        assert (one / name).read_bytes() == (other / name).read_bytes(), name
    metrics = [CLOCKS.sub("", (run / "metrics.json").read_text()) for run in (one, other)]
    assert metrics[0] == metrics[1]
    assert {path.name for path in one.iterdir()} == {path.name for path in other.iterdir()}
    assert not (one / CHECKPOINT).exists()


def fitted(store, recipe, run, progress=Silent()):
    """Train without evaluation and report."""
    run.mkdir(parents=True, exist_ok=True)
    fit(store, any_folds(store, recipe, 0), recipe, run, 0, progress)
    return run


@pytest.fixture(scope="module")
def whole(root, images):
    """A run in one piece."""
    train_run(images, root / "whole", QUICK, 0, Session())
    return root / "whole"


@pytest.fixture
def begun(images, tmp_path):
    """A run that was interrupted in its third epoch."""
    interrupted(images, tmp_path / "run")
    return tmp_path / "run"


def interrupted(store, run, epochs=2.5, **options):
    with pytest.raises(KeyboardInterrupt):
        train_run(store, run, QUICK, 0, Session(progress=Interrupting(epochs)), **options)


# ── the same bytes ───────────────────────────────────────────────────────────────────────────────────────────────────


def several(root):
    return join_stores([kinds_store(root, seed, n_cells=60, modules=3) for seed in (0, 1)], (1.0, 2.0), [])


def one(rendering=Rendering(), **settings):
    recipe = replace(QUICK, rendering=rendering, training=replace(QUICK.training, **settings))
    return lambda root: (small_store(root), recipe)


WAYS = {
    "as given": one(),
    "sgd, no average, constant rate": one(optimizer="sgd", learning_rate=0.01, averaging=0.0, schedule="constant"),
    "no mirror, adam, focal": one(mirror=False, optimizer="adam", loss="focal"),
    "cnnc, dropout": one(network="cnnc"),
    "the original's network": one(network="deep-cell-1", balance="natural"),
    "momentnet": one(Rendering("counts"), network="momentnet"),
    "loadings": one(network="pairnet-factors"),
    "several stores, kinds": lambda root: (several(root), replace(QUICK, splitting=Splitting(split="pair"))),
}


@pytest.mark.parametrize("way", WAYS)
def test_an_interrupted_training_ends_as_one_in_one_piece(root, tmp_path, way):
    """Interrupted twice, at moments that are drawn; what is shown again is less than an epoch."""
    (store, recipe), seen = WAYS[way](root), Counting()
    first, second = sorted(np.random.default_rng(len(way)).uniform(1, 4, 2).tolist())
    for moment in (first, second):
        with pytest.raises(KeyboardInterrupt):
            fitted(store, recipe, tmp_path / "parts", Interrupting(moment))
    fitted(store, recipe, tmp_path / "parts", seen)
    assert learned(tmp_path / "parts") == learned(fitted(store, recipe, tmp_path / "whole"))
    assert seen.epochs == 4 - int(second)


@pytest.mark.parametrize("at", ["save_checkpoint", "write_history", "_write_best", "save_evaluation"])
def test_it_may_end_between_any_two_files(images, whole, tmp_path, monkeypatch, at):
    module = train_module if at != "save_evaluation" else sys.modules[train_run.__module__]
    kept, calls = getattr(module, at), iter(range(99))

    def broken(*given):
        if next(calls) == (1 if at != "save_evaluation" else 0):
            raise KeyboardInterrupt
        return kept(*given)

    monkeypatch.setattr(module, at, broken)
    with pytest.raises(KeyboardInterrupt):
        train_run(images, tmp_path / "parts", QUICK, 0, Session())
    monkeypatch.undo()
    train_run(images, tmp_path / "parts", QUICK, 0, Session())
    same(tmp_path / "parts", whole)


def test_early_stopping_counts_the_epochs_before(images, tmp_path):
    recipe = replace(QUICK, training=replace(QUICK.training, epochs=40, patience=2, learning_rate=1e-9))
    epochs = len(learned(fitted(images, recipe, tmp_path / "whole"))[1]) - 1
    assert 3 <= epochs < 40
    with pytest.raises(KeyboardInterrupt):
        fitted(images, recipe, tmp_path / "parts", Interrupting(epochs - 0.5, per_run=40))
    assert learned(fitted(images, recipe, tmp_path / "parts")) == learned(tmp_path / "whole")


# ── of which job ─────────────────────────────────────────────────────────────────────────────────────────────────────


def other_recipe(root):
    return small_store(root), replace(QUICK, training=replace(QUICK.training, learning_rate=1e-4)), 0


OTHERS = {
    "recipe": other_recipe,
    "seed": lambda root: (small_store(root), QUICK, 1),
    "store": lambda root: (curved_store(root), QUICK, 0),
    "folds": lambda root: (small_store(root), replace(QUICK, splitting=Splitting(split="pair")), 0),
}


@pytest.mark.parametrize("case", OTHERS)
def test_another_job_is_refused(root, begun, refuses, case):
    before, (store, recipe, seed) = contents(begun), OTHERS[case](root)
    with refuses("unfinished training of another", "--overwrite"):
        train_run(store, begun, recipe, seed, Session())
    assert contents(begun) == before


def test_a_checkpoint_is_of_its_own_job_alone(begun):
    """Whatever a receipt says: the trials of a search have none."""
    job = load_tensors(begun / CHECKPOINT, KIND).facts["job"]
    assert read_checkpoint(begun / CHECKPOINT, job) is not None
    assert read_checkpoint(begun / CHECKPOINT, job[::-1]) is None


def test_another_version_is_another_job(images, begun, monkeypatch, refuses):
    monkeypatch.setattr("pairscape.model.training.checkpoint.versions", lambda: {"pairscape": "0.0"})
    with refuses("or version"):
        train_run(images, begun, QUICK, 0, Session())


def test_another_job_may_begin_anew(images, whole, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        train_run(images, tmp_path / "run", QUICK, 1, Session(progress=Interrupting(2.5)))
    train_run(images, tmp_path / "run", QUICK, 0, Session(), overwrite=True)
    same(tmp_path / "run", whole)


def test_another_machine_is_said(images, begun, monkeypatch):
    said = Saying()
    monkeypatch.setattr("torch.get_num_threads", lambda: 3)
    train_run(images, begun, QUICK, 0, Session(say=said))
    assert "threads 1 then and 3 now: weights may differ in the last digits" in said[0]


def cut_short(run):
    (run / CHECKPOINT).write_bytes((run / CHECKPOINT).read_bytes()[:-9])


def with_a_bit_turned(run):
    content = bytearray((run / CHECKPOINT).read_bytes())
    content[-5] ^= 1
    (run / CHECKPOINT).write_bytes(content)


def with_other_facts(run):
    file = load_tensors(run / CHECKPOINT, KIND)
    file.facts["standing"]["rows"] = file.facts["standing"]["rows"][:1]
    save_tensors(run / CHECKPOINT, KIND, file.tensors, file.facts)


def that_is_something_else(run):
    shutil.copyfile(run / "model.safetensors", run / CHECKPOINT)


DAMAGES = (
    cut_short,
    with_a_bit_turned,
    with_other_facts,
    that_is_something_else,
    lambda run: (run / CHECKPOINT).unlink(),
)


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_not_used_and_it_is_said(images, begun, whole, monkeypatch, damage):
    said = Saying()
    damage(begun)
    train_run(images, begun, QUICK, 0, Session(say=said))
    assert "it is begun anew" in said[0]
    assert learned(begun) == learned(whole)


# ── in place of a finished one, several, and trials ──────────────────────────────────────────────────────────────────


def test_what_replaces_a_finished_run_goes_on_too(images, whole, tmp_path):
    run, said = make_run(tmp_path / "run", images.path), Saying()
    before = contents(run)
    interrupted(images, run, overwrite=True)
    assert contents(run) == before
    train_run(images, run, QUICK, 0, Session(say=said), overwrite=True)
    assert "it goes on after epoch 2 of 4" in said[0]
    assert not run.with_name(".run.wip").exists()
    same(run, whole)


def test_repeats_go_on_within_one(images, whole, tmp_path):
    repeats, run, said = plan_repeats(QUICK, (1, 0), 0), tmp_path / "run", Saying()
    for overwrite in (False, True):
        with pytest.raises(KeyboardInterrupt):
            train_repeats(images, run, QUICK, repeats, Session(progress=InSecond(2.5)), overwrite=overwrite)
        train_repeats(images, run, QUICK, repeats, Session(say=said), overwrite=overwrite)
        assert "kept from an earlier run" in said[0]
        assert "it goes on after epoch 2 of 4" in said[2]
        same(run / "seed-0", whole)
        said.clear()


class InSecond(Interrupting):
    """Interrupts in the training of the second repeat."""

    counts = ("seed-0 training",)


def test_a_trial_goes_on(images, tmp_path, monkeypatch):
    search = Search(trials=1, trial_epochs=4, networks=("pairnet",), losses=("cross-entropy",))
    tune(images, tmp_path / "whole", QUICK, search, 0, Session())
    learn, epochs = train_module._train_epoch, []

    def counted(*given):
        epochs.append(1)
        if len(epochs) == 3:
            raise KeyboardInterrupt
        return learn(*given)

    monkeypatch.setattr(train_module, "_train_epoch", counted)
    with pytest.raises(KeyboardInterrupt):
        tune(images, tmp_path / "parts", QUICK, search, 0, Session())
    assert (tmp_path / "parts" / "trials" / "0000" / CHECKPOINT).exists()
    found = tune(images, tmp_path / "parts", QUICK, search, 0, Session())
    assert len(epochs) == 3 + 2 + 4  # two of the trial were kept, the best recipe is trained in full
    assert found["best"]["score"] == json.loads((tmp_path / "whole" / "study.json").read_text())["best"]["score"]
    trials = tmp_path / "parts" / "trials"
    assert learned(trials / "0001") == learned(tmp_path / "whole" / "trials" / "0000")
    assert [path.name for path in trials.iterdir()] == ["0001"]
    assert not (trials / "0001" / CHECKPOINT).exists()
    same(tmp_path / "parts" / "best", tmp_path / "whole" / "best")
