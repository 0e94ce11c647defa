"""One network from several image stores: mixed batches, folds by name, whole stores as the test."""

import itertools
import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import pairscape
from model_fixtures import kinds_store
from pairscape.model.batches.many import ManyStores, join_stores
from pairscape.model.batches.many_folds import any_folds
from pairscape.model.batches.stream import PairStream
from pairscape.model.options import Recipe, Splitting, Training
from typed import run_command

QUICK = {"epochs": 2, "batch_size": 64, "quiet": True}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("many")


@pytest.fixture(scope="module")
def stores(root):
    """Of 630, 435 and 435 pairs over 90, 140 and 70 cells, with no gene in common."""
    return [kinds_store(root, 1, 90, 6), kinds_store(root, 2, 140, 5), kinds_store(root, 3, 70, 5)]


@pytest.fixture(scope="module")
def run(root, stores):
    pairscape.train(*[store.path for store in stores], root / "run", **QUICK)
    return root / "run"


@pytest.fixture(scope="module")
def metrics(run):
    return json.loads((run / "metrics.json").read_text())


def streamed(stores, weights=None, seed=0, workers=0, **settings):
    many = join_stores(stores, weights, ())
    folds = any_folds(many, Recipe(splitting=Splitting(split="pair")), seed)
    stream = PairStream(many, folds.train, folds.pairs.label, Training(**settings), seed, workers=workers)
    return many, stream


def of_store(many, row):
    return np.searchsorted(many.starts, row, side="right") - 1


@pytest.mark.parametrize("balance", ["down", "over", "natural"])
@pytest.mark.parametrize("weights", [None, (1, 2, 5)])
def test_each_class_is_shown_in_the_shares_of_the_stores(stores, balance, weights):
    many, stream = streamed(stores, weights, balance=balance, ratio=3.0, batch_size=200)
    batches = list(stream)
    row = np.concatenate([batch.row for batch in batches])
    label = np.concatenate([batch.label for batch in batches]) > 0
    assert row.size == stream.images_per_epoch
    shares = np.array(weights or (1, 1, 1)) / sum(weights or (1, 1, 1))
    for of_class in (label, ~label):
        shown = np.bincount(of_store(many, row[of_class]), minlength=3)
        np.testing.assert_allclose(shown, shares * of_class.sum(), atol=1)
    for batch in batches:
        assert set(of_store(many, batch.row.numpy())) == {0, 1, 2}  # copies of small stores too


def test_every_row_comes_with_the_image_of_its_own_store(stores):
    many, stream = streamed(stores)
    for batch in itertools.islice(stream, 2):
        for number, row, counts, label in zip(
            of_store(many, batch.row.numpy()), batch.row.tolist(), batch.counts, batch.label, strict=True
        ):
            own = row - int(many.starts[number])
            np.testing.assert_array_equal(counts, stores[number].counts(slice(own, own + 1))[0])
            assert counts.sum() == stores[number].spec.n_cells
            assert label == stores[number].array("label")[own]


def test_one_seed_gives_one_order_and_another_another(stores):
    first, again, other = ([batch.row.tolist() for batch in streamed(stores, seed=seed)[1]] for seed in (0, 0, 1))
    assert first == again != other


def test_windows_that_hold_less_than_all_rows_show_the_same_shares(stores):
    many, stream = streamed(stores, batch_size=30)
    stream.drawing, stream.resident_images = replace(stream.drawing, window_images=120), 0
    row = np.concatenate([batch.row for batch in stream])
    assert np.ptp(np.bincount(of_store(many, row))) <= 4  # of 900; whole images of both classes


def test_one_store_is_trained_as_ever(stores, tmp_path):
    (store, *_), run = stores, tmp_path / "run"
    assert join_stores([store], None, ()) is store
    pairscape.train(store.path, run, **QUICK)
    metrics = json.loads((run / "metrics.json").read_text())
    assert "stores" not in metrics
    assert (run / "reference.safetensors").exists()
    assert "store" not in pd.read_parquet(run / "predictions.parquet")


def test_figures_are_told_of_each_store_and_of_all(metrics, run, stores):
    assert [one["path"] for one in metrics["stores"]] == [str(store.path) for store in stores]
    assert [one["n_cells"] for one in metrics["stores"]] == [90, 140, 70]
    assert sum(one["n_test"] for one in metrics["stores"]) == metrics["n_test"]
    assert all(one["audit"]["spearman"]["auroc"] is not None for one in metrics["stores"])
    assert metrics["store"]["n_cells"] == 90  # the median
    table = pd.read_parquet(run / "predictions.parquet")
    assert table.groupby("store").size().to_dict() == {one["path"]: one["n_test"] for one in metrics["stores"]}
    for name in ("spearman", "mutual_information"):
        assert 0 <= metrics["audit"][name]["auroc"] <= 1


def test_report_and_card_name_every_store(run, stores):
    page, card = (run / "report.html").read_text(), (run / "model-card.md").read_text()
    assert "Each data set by itself" in page
    for store in stores:
        assert str(store.path) in page
    assert card.count("33 % of what was shown") == 3


def test_a_run_of_several_stores_says_that_it_has_no_reference(run, stores, tmp_path, capsys):
    pairscape.evaluate(run, stores[0].path, out=tmp_path / "on", quiet=False)
    assert "several stores were trained on" in capsys.readouterr().out


def test_the_same_stores_give_the_same_weights(run, stores, tmp_path):
    pairscape.train([store.path for store in stores], tmp_path / "again", **QUICK)
    assert (tmp_path / "again/model.safetensors").read_bytes() == (run / "model.safetensors").read_bytes()


@pytest.mark.parametrize("split", ["both", "pair", "regulator"])
def test_a_name_is_in_one_fold_in_all_stores(stores, tmp_path, split):
    other = kinds_store(tmp_path, 1, 100, 6)  # the same names, other cells
    assert set(other.array("gene")) == set(stores[0].array("gene"))
    folds = any_folds(join_stores([stores[0], other], None, ()), Recipe(splitting=Splitting(split=split)), 0)
    assigned = []
    for store, own in folds.tested:
        gene, pairs = store.array("gene"), own.pairs
        named = {}
        for name in ("train", "validation", "test"):
            rows = getattr(own, name)
            ends = zip(gene[pairs.gene_a[rows]], gene[pairs.gene_b[rows]], strict=True)
            named |= {frozenset(pair): name for pair in ends}
        assigned.append(named)
    assert assigned[0] == assigned[1]


def test_whole_stores_are_left_out(stores, tmp_path):
    out = tmp_path / "run"
    assert run_command(
        "train", *[store.path for store in stores], out, "--split", "dataset", "--test-stores", stores[2].path,
        "--weights", "1,3", "--epochs", "2", "--batch-size", "64", "--quiet",
    ) == 0  # fmt: skip
    metrics = json.loads((out / "metrics.json").read_text())
    assert [one["path"] for one in metrics["stores"]] == [str(stores[2].path)]
    assert "of their 30 genes 0 are named in training stores too" in metrics["notes"][0]
    assert set(pd.read_parquet(out / "predictions.parquet")["store"]) == {str(stores[2].path)}
    assert "left out of the training, the test" in (out / "model-card.md").read_text()


def test_seeds_repeat_it_and_keep_what_is_finished(stores, tmp_path):
    paths = [store.path for store in stores[:2]]
    found = pairscape.train(paths, tmp_path / "run", seeds=2, **QUICK | {"epochs": 1})
    weights = (tmp_path / "run/seed-0/model.safetensors").stat().st_mtime_ns
    assert found["test"] == pairscape.train(paths, tmp_path / "run", seeds=2, **QUICK | {"epochs": 1})["test"]
    assert (tmp_path / "run/seed-0/model.safetensors").stat().st_mtime_ns == weights


def changed(store, name):
    """The store as if it were of other bins, rule, classes or values."""
    spec, provenance = store.spec, store.provenance
    return {
        "bins": replace(store, spec=replace(spec, binning=replace(spec.binning, bins=32))),
        "rule": replace(store, spec=replace(spec, binning=replace(spec.binning, scale="max"))),
        "classes": replace(store, class_names=()),
        "values": replace(store, provenance=provenance | {"matrix": {"values": "something else"}}),
    }[name]


@pytest.mark.parametrize(("name", "words"), [
    ("bins", ["bins (16 and 32)"]), ("rule", ["rule of binning (rank and max)"]),
    ("classes", ["classes (none, rising"]), ("values", ["kind of values", "something else"]),
])  # fmt: skip
def test_stores_that_do_not_go_together_are_refused_by_name(stores, name, words, refuses):
    with refuses(str(stores[0].path), str(stores[1].path), *words):
        ManyStores((stores[0], changed(stores[1], name)), (1.0, 1.0))


@pytest.mark.parametrize(("weights", "split", "tests", "words"), [
    ("1,2", "both", 0, ["weights 1, 2 for 3 training stores"]),
    ("1,0,1", "both", 0, ["weights 1, 0, 1", "above 0"]),
    ("1,nan,1", "both", 0, ["weights 1, nan, 1"]),
    ("one", "both", 0, ["weights 'one'", "1,2,1"]),
    (None, "dataset", 0, ["split is dataset and 0 test stores"]),
    (None, "both", 1, ["split is both and 1 test stores"]),
    (None, "dataset", 3, ["nothing is left to train on"]),
])  # fmt: skip
def test_weights_and_splits_that_do_not_fit_are_refused(stores, tmp_path, weights, split, tests, words, refuses):
    paths = [str(store.path) for store in stores]
    with refuses(*words):
        pairscape.train(
            paths, tmp_path / "run", split=split, weights=weights, test_stores=",".join(paths[:tests]) or None
        )
    assert not (tmp_path / "run").exists()


def test_other_mistakes_are_refused(root, stores, tmp_path, refuses):
    with refuses("is given twice"):
        pairscape.train(stores[0].path, stores[0].path, tmp_path / "run")
    with refuses("IMAGES.zarr RUN"):
        pairscape.train(tmp_path / "run")
    with refuses("no test store is named"):
        pairscape.train(stores[0].path, tmp_path / "run", split="dataset")
    with refuses("folds and matched negatives"):
        Splitting(split="dataset", folds=3)
    with refuses("deepdrim", "one store"):
        pairscape.train([store.path for store in stores], tmp_path / "run", network="deepdrim")
    assert not (tmp_path / "run").exists()
