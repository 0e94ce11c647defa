"""The shift guard: data like those of the training are called so, others are not, and it is said what differs."""

from dataclasses import replace

import numpy as np
import pytest
from model_fixtures import curved_store, make_store, module_expression

import pairscape
from benchmarks import shift as benchmark
from model.classifier import load_classifier
from model.reference import FILE, CountedPairs, load_reference, sample_rows, shift_of
from model.run import train_run
from model.shift import UNCOMPARED, Observed, Reference, compare, earth_mover, frechet, shift_lines, shift_words
from model.spec import Recipe, Splitting, Training
from pipeline.errors import InputError
from pipeline.progress import Silent
from pipeline.spec import Binning, Compute, PairSource

RECIPE = Recipe(splitting=Splitting("pair"), training=Training(network="cnnc", epochs=1))
ALL = PairSource(all_pairs=True)


def trained(images, folder):
    train_run(images, folder, RECIPE, 3, Silent(), overwrite=True, say=lambda *_: None)
    return folder


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return curved_store(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="module")
def run(images, tmp_path_factory):
    return trained(images, tmp_path_factory.mktemp("shift") / "run")


def store(folder, cells=300, kept=1.0, scale="rank", seed=7):
    """All pairs of 36 genes in modules; `kept` of the expressed values stay."""
    expression, _ = module_expression(cells, 12, 3, seed=seed)
    expression *= np.random.default_rng(seed).random(expression.shape) < kept
    expression[:, 0] = np.maximum(expression[:, 0], 0.01)
    return make_store(folder, expression, ALL, Binning(scale, 16))


def guard(run, images, seed=1):
    classifier, facts = load_classifier(run)
    rows = sample_rows(np.arange(images.spec.n_pairs), seed)
    return shift_of(load_reference(run), classifier, facts, CountedPairs.of_rows(images, rows, classifier))


def test_the_training_data_are_like_themselves(run, images):
    found = guard(run, images)
    assert (found.level, found.sentence) == (
        "like",
        "The new matrix is like the training one: scores mean what they meant there.",
    )
    assert found.overall < 1
    assert found.parts["cells"].times == found.parts["depth"].times == 1


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"cells": 40}, "has 0.13 times the cells (40 against 300)"),
        ({"kept": 0.15}, "more dropout (a gene is expressed in"),
        ({"scale": "max"}, "is binned by the rule max, not rank"),
    ],
)
def test_other_data_are_told_and_named(run, tmp_path, changed, said):
    found = guard(run, store(tmp_path, **changed))
    assert found.level != "like"
    assert said in found.sentence
    assert "to be trusted" in found.sentence


def test_the_farther_the_data_the_larger_the_distance(run, tmp_path):
    distances = [guard(run, store(tmp_path / str(kept), kept=kept)).overall for kept in (0.6, 0.3, 0.1)]
    assert distances == sorted(distances)


def test_the_same_seed_gives_the_same_reference(run, images, tmp_path):
    again = trained(images, tmp_path / "again")
    assert (again / FILE).read_bytes() == (run / FILE).read_bytes()


def test_predict_tells_before_it_spends(run, images, tmp_path, capsys):
    pairscape.predict(run, tmp_path / "s.parquet", images=images.path, compute=Compute("synchronous"))
    said = capsys.readouterr().out
    assert said.index("like the training one") < said.index("wrote")
    assert "Distance from the training data: 0." in said
    assert "like the training one" in (tmp_path / "s.html").read_text()
    other = tmp_path / "early"
    other.mkdir()
    for name in ("model.safetensors", "config.toml"):
        (other / name).write_bytes((run / name).read_bytes())
    pairscape.predict(other, tmp_path / "t.parquet", images=images.path, compute=Compute("synchronous"))
    assert UNCOMPARED in capsys.readouterr().out


def test_evaluate_on_another_store_tells(run, tmp_path):
    """The report has it too."""
    other = curved_store(tmp_path, seed=5)
    found = pairscape.evaluate(run, other.path, out=tmp_path / "on", quiet=True)
    assert found["shift"]["parts"].keys() == {
        "cells", "depth", "dropout", "occupied", "density", "residual", "embedding", "scores",
    }  # fmt: skip
    assert found["shift"]["sentence"] in (tmp_path / "on" / "report.html").read_text()


def test_a_reference_that_does_not_belong_is_refused(run, images, tmp_path):
    for name in ("model.safetensors", "config.toml", FILE):
        (tmp_path / name).write_bytes((run / name).read_bytes())
    content = (run / FILE).read_bytes()
    for damaged, said in (
        (content[: len(content) // 2], "cannot be read as weights"),
        (b"", "cannot be read as weights"),
        (
            (run / "model.safetensors").read_bytes(),
            "is pairscape-model version 1, this Pairscape reads",
        ),
    ):
        (tmp_path / FILE).write_bytes(damaged)
        with pytest.raises(InputError, match=said):
            pairscape.predict(tmp_path, tmp_path / "s.parquet", images=images.path, quiet=True)
        assert not (tmp_path / "s.parquet").exists()
    (tmp_path / FILE).write_bytes(content)
    (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(InputError, match="measured with other weights"):
        load_reference(tmp_path)


def observed(**changed):
    rng = np.random.default_rng(0)
    made = {
        "n_cells": 100, "n_genes": 50, "n_pairs": 400, "scale": "rank", "noise": 0.04, "depth": 20.0,
        "dropout": np.linspace(0.2, 0.9, 64), "occupied": np.linspace(0, 0.5, 64), "density": np.ones((4, 4)),
        "residual": np.zeros((4, 4)), "mean": rng.normal(size=3), "covariance": np.diag([1.0, 2.0, 3.0]),
        "scores": np.linspace(-5, 1, 64),
    }  # fmt: skip
    return Observed(**(made | changed))


def test_distances_of_known_distributions():
    a = observed()
    assert earth_mover(a.scores, a.scores + 0.5) == pytest.approx(0.5)
    assert frechet(a, a) == pytest.approx(0, abs=1e-6)
    assert frechet(a, replace(a, mean=a.mean + np.array([3.0, 4.0, 0]))) == pytest.approx(5)
    wider = replace(a, covariance=np.diag([4.0, 2.0, 3.0]))  # deviations of 1 and 2 in one direction
    assert frechet(a, wider) == pytest.approx(1)


def test_a_distance_is_told_in_units_of_two_halves():
    a = observed()
    units = dict.fromkeys(("dropout", "occupied", "density", "residual", "embedding", "scores"), 0.1)
    found = compare(Reference(a, units), replace(a, scores=a.scores + 0.5))
    assert found.parts["scores"].times == pytest.approx(0.5 / 0.1 / np.sqrt(0.5))  # whole samples have half the noise
    assert found.overall == pytest.approx(found.parts["scores"].times / np.sqrt(6))
    lines = shift_lines(found.facts())
    assert lines[0] == found.sentence
    assert shift_words(found.facts())["rows"][-1]["times"] == "7.1 ×"
    assert (shift_lines(None), shift_words(None)) == ([], None)


def test_the_benchmark_names_every_store(run, images):
    (found,) = benchmark.measure(run, [images.path])
    assert (found["images"], found["level"], found["cells"]) == (images.path.name, "like", 300)
