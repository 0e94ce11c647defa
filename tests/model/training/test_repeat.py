"""Several folds or seeds are one command: a run each, their mean and spread, and what is finished is not done again."""

import json
import shutil
import tomllib
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import pairscape
from model_fixtures import curved_store, gene_names, run_command
from model_fixtures import small_store as tiny_store
from pairscape.model.batches.store_folds import make_folds
from pairscape.model.evaluation.evaluate import store_facts
from pairscape.model.evaluation.metrics import mean_of, spread_of
from pairscape.model.networks.weights import write_config
from pairscape.model.options import Recipe, Splitting, Training
from pairscape.model.reports.terminal import print_closing
from pairscape.model.training import repeat as repeat_module
from pairscape.model.training.repeat import _finished, plan_repeats, read_seeds, summary, train_repeats
from pairscape.model.training.run import evaluate_run, train_run
from pairscape.pipeline.compute.session import Session

BRIEF = Training(epochs=1, batch_size=128)
FOLDS = Recipe(splitting=Splitting(folds=3), training=BRIEF)
WHOLE = {"receipt.json", "config.toml", "metrics.json", "predictions.parquet", "report.html"}


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return curved_store(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="module")
def folds_run(images, tmp_path_factory):
    """Three folds, trained by the command."""
    run = tmp_path_factory.mktemp("repeats") / "run"
    options = ["--folds", 3, "--epochs", 1, "--batch-size", 128, "--quiet"]
    assert run_command("train", images.path, run, *options) == 0
    return run


@pytest.fixture
def copy(folds_run, tmp_path):
    return shutil.copytree(folds_run, tmp_path / "run")


def read_metrics(run):
    return json.loads((run / "metrics.json").read_text())


def again(images, run, recipe=FOLDS, seeds=None, seed=0, **options):
    """Train as the command does; the metrics, and which repeats were trained."""
    told = []
    session = Session(say=told.append)
    metrics = train_repeats(images, run, recipe, plan_repeats(recipe, seeds, seed), session, **options)
    return metrics, [line.split(",")[0] for line in told if "kept" not in line]


@pytest.fixture
def pretended(monkeypatch, folds_run):
    """Training that takes no time: the folder of a trained fold, under the recipe, seed and folds asked for."""

    def pretend(images, folder, recipe, seed, session, *, overwrite, runs):
        if folder.exists():
            shutil.rmtree(folder)
        shutil.copytree(folds_run / f"fold-{recipe.splitting.fold or 0}", folder)
        write_config(folder / "config.toml", recipe, store_facts(images), seed)
        folds = make_folds(images, recipe, seed)
        metrics = read_metrics(folder) | {"folds_hash": folds.content_hash(), "seed": seed, "notes": list(folds.notes)}
        (folder / "metrics.json").write_text(json.dumps(metrics))
        (folder / "receipt.json").unlink()  # it described the trained fold's own files
        return metrics

    monkeypatch.setattr(repeat_module, "train_run", pretend)
    return pretend


def without_time(metrics):
    return {key: value for key, value in metrics.items() if key != "seconds"}


# ---------------------------------------------------------------- a run of repeats


def test_every_fold_is_a_run_of_its_own(images, folds_run, tmp_path):
    assert {path.name for path in folds_run.iterdir()} == WHOLE | {"fold-0", "fold-1", "fold-2"}
    config = tomllib.loads((folds_run / "fold-1" / "config.toml").read_text())
    assert (config["splitting"]["folds"], config["splitting"]["fold"]) == (3, 1)
    assert "fold" not in tomllib.loads((folds_run / "config.toml").read_text())["splitting"]
    alone = Recipe(splitting=Splitting(folds=3, fold=1), training=BRIEF)
    assert without_time(train_run(images, tmp_path / "run", alone, 0, Session())) == without_time(
        read_metrics(folds_run / "fold-1")
    )


def test_metrics_hold_mean_spread_and_each_repeat(folds_run):
    metrics, own = read_metrics(folds_run), [read_metrics(folds_run / f"fold-{i}") for i in range(3)]
    assert [repeat["name"] for repeat in metrics["repeats"]] == ["fold-0", "fold-1", "fold-2"]
    for part, name in (("test", None), ("audit", "pearson")):
        values = [(one[part] if name is None else one[part][name])["auroc"] for one in own]
        mean, spread = metrics[part], metrics["spread"][part]
        mean, spread = (mean, spread) if name is None else (mean[name], spread[name])
        assert mean["auroc"] == pytest.approx(np.mean(values))
        assert spread["auroc"] == pytest.approx(
            {"min": min(values), "max": max(values), "standard_deviation": np.std(values, ddof=1)}
        )
    assert set(metrics) > {"split", "prevalence", "n_test", "collapsed", "seed", "versions", "store"}
    assert (metrics["split"], metrics["seeds"]) == ("both", [0])
    assert metrics["prevalence"] == pytest.approx(np.mean([one["prevalence"] for one in own]))


def test_scores_of_all_folds_are_in_one_table_and_each_pair_once(folds_run):
    table = pd.read_parquet(folds_run / "predictions.parquet")
    own = [pd.read_parquet(folds_run / f"fold-{i}" / "predictions.parquet") for i in range(3)]
    assert table["fold"].tolist() == np.repeat([0, 1, 2], [len(one) for one in own]).tolist()
    assert (table["seed"] == 0).all()
    np.testing.assert_array_equal(table["score"], pd.concat(own)["score"])
    assert not table.duplicated(["gene_a", "gene_b"]).any()


def test_the_overview_links_each_repeat_and_shows_the_figures(folds_run):
    page, metrics = (folds_run / "report.html").read_text(), read_metrics(folds_run)
    for repeat in metrics["repeats"]:
        assert f'href="{repeat["name"]}/report.html"' in page
        assert (folds_run / repeat["name"] / "report.html").exists()
    mean, deviation = metrics["test"]["auroc"], metrics["spread"]["test"]["auroc"]["standard_deviation"]
    assert f"{mean:.3f} ± {deviation:.3f} over 3 folds" in page
    assert page.count('<span class="strip"') == 3 * (1 + len(metrics["audit"]))
    assert [mark for mark in ("{{", "<script", "None") if mark in page] == []


def test_the_terminal_shows_mean_and_spread(folds_run, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    metrics = read_metrics(folds_run)
    print_closing(metrics, folds_run)
    shown = capsys.readouterr().out
    assert "3 repeats, mean ± standard deviation" in shown
    assert f"± {metrics['spread']['test']['auroc']['standard_deviation']:.3f}" in shown
    assert f"{metrics['spread']['test']['auroc']['min']:.3f} to" in shown


def test_the_overview_is_built_again(copy, capsys):
    before = (copy / "report.html").read_text()
    (copy / "report.html").unlink()
    assert pairscape.report(copy) == copy / "report.html"
    assert (copy / "report.html").read_text() == before


def test_a_collapse_of_one_repeat_is_the_headline(folds_run):
    repeats, own = plan_repeats(FOLDS, None, 0), [read_metrics(folds_run / f"fold-{i}") for i in range(3)]
    own = [one | {"collapsed": i == 1, "collapse_reason": "all alike" * (i == 1)} for i, one in enumerate(own)]
    metrics = summary(FOLDS, repeats, own)
    assert (metrics["collapsed"], metrics["collapse_reason"]) == (True, "fold-1: all alike")


# ---------------------------------------------------------------- going on


def test_what_is_finished_is_kept_and_the_rest_is_trained_to_the_same_figures(images, copy, pretended):
    whole = without_time(read_metrics(copy))
    shutil.rmtree(copy / "fold-2")
    (copy / "fold-1" / "metrics.json").unlink()  # killed while it was evaluated
    (copy / "metrics.json").unlink()
    metrics, trained = again(images, copy)
    assert trained == ["fold-1", "fold-2"]
    assert without_time(metrics) == whole


def test_an_interrupted_command_goes_on(images, tmp_path, monkeypatch, folds_run, pretended):
    trained = []

    def killed(*arguments, **options):
        if trained:
            raise KeyboardInterrupt
        trained.append(arguments[1].name)
        return pretended(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(repeat_module, "train_run", killed)
        with pytest.raises(KeyboardInterrupt):
            again(images, tmp_path / "run")
    metrics, rest = again(images, tmp_path / "run")
    assert (trained, rest) == (["fold-0"], ["fold-1", "fold-2"])
    assert without_time(metrics) == without_time(read_metrics(folds_run))


def test_a_fold_trained_on_its_own_is_one_of_them(images, folds_run, tmp_path, pretended):
    shutil.copytree(folds_run / "fold-1", tmp_path / "run" / "fold-1")
    shutil.copytree(folds_run / "fold-2", tmp_path / "run" / "fold-2")
    assert again(images, tmp_path / "run")[1] == ["fold-0"]


def test_overwrite_trains_all_anew(images, copy, pretended):
    assert again(images, copy, overwrite=True)[1] == ["fold-0", "fold-1", "fold-2"]


def test_seeds_are_added_to_those_there_are(images, tmp_path, pretended):
    recipe = Recipe(training=BRIEF)
    first, trained = again(images, tmp_path / "run", recipe, seeds=(3,))
    assert trained == ["seed-3"]
    assert first["spread"]["test"]["auroc"]["standard_deviation"] is None
    metrics, trained = again(images, tmp_path / "run", recipe, seeds=(3, 4))
    assert trained == ["seed-4"]
    assert metrics["repeats"][0]["test"] == first["test"]
    assert [repeat["seed"] for repeat in metrics["repeats"]] == metrics["seeds"] == [3, 4]


def test_what_would_be_mixed_is_refused_and_left_alone(images, copy, refuses):
    before = {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()}
    longer = Recipe(splitting=Splitting(folds=3), training=Training(epochs=2, batch_size=128))
    with refuses("fold-0", "another recipe or seed", "--overwrite"):
        again(images, copy, longer)
    with refuses("fold-0", "another recipe or seed"):
        again(images, copy, seed=1)
    other = replace(images, spec=replace(images.spec, n_cells=images.spec.n_cells + 1))
    with refuses("fold-0", "another store"):
        _finished(other, copy, plan_repeats(FOLDS, None, 0)[0], "")
    assert {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()} == before


def test_folders_that_hold_something_else_are_refused(images, folds_run, tmp_path, refuses):
    single = shutil.copytree(folds_run / "fold-0", tmp_path / "single")
    with refuses("single", "a trained network", "--overwrite"):
        again(images, single)
    (tmp_path / "file").write_text("")
    with refuses("is a file"):
        again(images, tmp_path / "file")


def test_a_changed_file_of_folds_is_noticed(images, tmp_path, refuses, pretended):
    file, names = tmp_path / "folds.csv", gene_names(108)
    lines = [f"{name},{i % 3}" for i, name in enumerate(names)]
    file.write_text("\n".join(["TF,fold", *lines]))
    recipe = Recipe(splitting=Splitting("file", fold_file=file), training=BRIEF)
    metrics, trained = again(images, tmp_path / "run", recipe)
    assert {"fold-0", "fold-1", "fold-2"} <= set(trained)
    assert [repeat["fold"] for repeat in metrics["repeats"]] == [0, 1, 2]
    assert metrics["notes"] == ["folds.csv: 108 of 108 genes are in the store; the regulator decides on a pair"]
    moved = file.rename(tmp_path / "moved.csv")
    recipe = Recipe(splitting=Splitting("file", fold_file=moved), training=BRIEF)
    assert again(images, tmp_path / "run", recipe)[1] == []
    moved.write_text("\n".join(["TF,fold", f"{names[0]},1", *lines[1:]]))
    with refuses("fold-0", "other folds"):
        again(images, tmp_path / "run", recipe)


def test_all_folds_are_checked_before_one_is_trained(tmp_path_factory, tmp_path, refuses):
    images = tiny_store(tmp_path_factory.getbasetemp())
    with refuses("fold", "positive and 0 negative"):
        again(images, tmp_path / "run", Recipe(splitting=Splitting(folds=12, validation_share=0.1), training=BRIEF))
    assert not (tmp_path / "run").exists()


def test_a_run_of_repeats_is_not_one_network(images, folds_run, refuses, tmp_path):
    with refuses("holds 3 repeats", "fold-0"):
        evaluate_run(folds_run, images, tmp_path / "out", Session())


# ---------------------------------------------------------------- what to repeat


def test_repeats_are_named_after_seed_and_fold(tmp_path):
    file = tmp_path / "folds.csv"
    file.write_text("TF,fold\nA,4\nB,5\nC,6\n")
    one, words = Recipe(), tmp_path / "words.csv"
    words.write_text("gene,fold\nA,train\nB,test\n")

    def names(recipe, seeds=None):
        return [repeat.name for repeat in plan_repeats(recipe, seeds, 7)]

    assert names(one) == []
    assert names(one, (2, 5)) == ["seed-2", "seed-5"]
    assert names(Recipe(splitting=Splitting(folds=2)), (2, 5)) == [
        "seed-2-fold-0", "seed-2-fold-1", "seed-5-fold-0", "seed-5-fold-1",
    ]  # fmt: skip
    assert names(Recipe(splitting=Splitting(folds=2, fold=1))) == []
    assert names(Recipe(splitting=Splitting("file", fold_file=file))) == ["fold-0", "fold-1", "fold-2"]
    assert names(Recipe(splitting=Splitting("file", fold_file=file, fold=2))) == []
    assert names(Recipe(splitting=Splitting("file", fold_file=words))) == []
    assert [repeat.seed for repeat in plan_repeats(FOLDS, None, 7)] == [7, 7, 7]


@pytest.mark.parametrize(("given", "seeds"), [
    (3, (5, 6, 7)), ("3", (5, 6, 7)), ("0,2,1", (0, 2, 1)), ("4,", None), ((8, 9), (8, 9)), ([2], (2,)), (1, (5,)),
    (0, None), ("0", None), ("1,1", None), ("-1,2", None), ("many", None), ("", None), ((), None), (2000, None),
])  # fmt: skip
def test_seeds_are_a_number_or_a_list(given, seeds, refuses):
    if seeds is not None:
        assert read_seeds(given, 5) == seeds
        return
    with refuses(f"seeds {given!r}", "0,1,2" if given in ("many", "", "4,") else "commas"):
        read_seeds(given, 5)


def test_the_command_takes_seeds_as_a_number_or_a_list(images, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(repeat_module, "train_repeats", lambda *args, **_: asked.append([r.seed for r in args[3]]))
    for seeds in ("2", "4,1"):
        assert run_command("train", images.path, tmp_path / "run", "--seeds", seeds, "--seed", 3, "--quiet") == 0
    pairscape.train(images.path, tmp_path / "run", seeds=(6, 5), quiet=True)
    assert asked == [[3, 4], [4, 1], [6, 5]]
    assert run_command("train", images.path, tmp_path / "run", "--seeds", "1,1", "--quiet") == 2


# ---------------------------------------------------------------- mean and spread


def test_figures_that_a_run_lacks_are_left_out_of_the_mean():
    runs = [{"a": 1, "b": {"c": None, "d": 2.0}, "words": "x"}, {"a": 3, "b": {"c": None, "d": None}, "e": [1]}]
    assert mean_of(runs) == {"a": 2.0, "b": {"c": None, "d": 2.0}}
    assert spread_of(runs) == {
        "a": {"min": 1.0, "max": 3.0, "standard_deviation": pytest.approx(2**0.5)},
        "b": {"c": None, "d": {"min": 2.0, "max": 2.0, "standard_deviation": None}},
    }


def test_nan_is_no_figure():
    assert mean_of([{"a": float("nan")}, {"a": 4.0}]) == {"a": 4.0}
