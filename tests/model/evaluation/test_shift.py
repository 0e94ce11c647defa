"""The shift guard: candidates like the training's are called so, others are not, and it is said what differs."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

import pairscape
from benchmarks import shift as benchmark
from model_fixtures import HERE, make_store, module_expression
from pairscape.model.batches.store_folds import make_folds
from pairscape.model.evaluation.measure import (
    RANDOM_PAIRS,
    PairSample,
    codes_at_hand,
    find_shift,
    random_pairs,
    sample_rows,
)
from pairscape.model.evaluation.reference import FILE, KIND, load_reference, make_reference, save_reference
from pairscape.model.evaluation.shift import (
    UNCOMPARED,
    PairStatistics,
    Reference,
    compare,
    earth_mover,
    frechet,
    shift_lines,
    shift_words,
)
from pairscape.model.networks.classifier import TrainedNetwork
from pairscape.model.networks.weights import load_tensors, save_tensors
from pairscape.model.options import Prediction
from pairscape.model.prediction.trained import TrainedRun
from pairscape.pipeline.errors import InputError
from pairscape.pipeline.heatmaps.count import count_pairs
from pairscape.pipeline.options import Binning, PairSource
from portable_run import PORTABLE, RECIPE, SEED, copy_portable, portable_run, portable_store, rewrite_facts

PARTS = ("cells", "depth", "dropout", "occupied", "density", "residual", "embedding", "scores")
PRIOR = 0.125


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return portable_store(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return portable_run(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    """Makes stores of all pairs of 24 genes in modules, each once; `kept` of the expressed values stay."""
    made = {}

    def store(cells=150, kept=1.0, scale="rank"):
        key = (cells, kept, scale)
        if key not in made:
            expression, _ = module_expression(cells, 8, 3, seed=7)
            expression *= np.random.default_rng(7).random(expression.shape) < kept
            expression[:, 0] = np.maximum(expression[:, 0], 0.01)
            folder = tmp_path_factory.mktemp("other")
            made[key] = make_store(folder, expression, PairSource(all_pairs=True), Binning(scale, 16))
        return made[key]

    return store


def guard(run, images, sample=None, seed=1, at_random=None):
    """The guard's verdict on a sample of pairs; of all pairs of a store where none is given."""
    network = TrainedNetwork.load(run)
    sample = sample or PairSample.of_rows(images, np.arange(images.spec.n_pairs), network.classifier)
    at_random = at_random or partial(random_pairs, images, network.classifier, seed)
    return find_shift(load_reference(run, network), network, sample, at_random, PRIOR)


def within_modules():
    """Genes of the same module and kind: (48, 2). Their correlation is what hardly any pair of the training shows."""
    return np.array([(3 * m + a, 3 * m + b) for m in range(16) for a, b in ((0, 1), (0, 2), (1, 2))])


def counted_within_modules(images):
    codes, (gene_a, gene_b) = codes_at_hand(images), within_modules().T
    counted = count_pairs(codes, gene_a, gene_b)
    return PairSample(gene_a, gene_b, *counted, codes.array("dropout"), codes.n_cells, "rank")


# ── what is said ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_training_data_are_like_themselves(run, images):
    found = guard(run, images)
    assert found.sentence == (
        f"These pairs are like the training pairs (distance {found.candidates.overall:.1f}; below 3 is alike, from 12 "
        "unlike). A score means what it meant there, if 12.50% of the candidates are edges."
    )
    assert found.candidates.level == "like"
    assert found.candidates.overall < 1
    assert found.random is None
    assert found.parts["cells"].times == found.parts["depth"].times == 1


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"cells": 40}, "are counted over 0.27 times the cells (40, not 150)"),
        ({"kept": 0.1}, "have more dropout (a gene is expressed in"),
        ({"scale": "max"}, "are binned by the rule max, not rank"),
    ],
)
def test_another_matrix_is_told_and_named(run, other, changed, said):
    found = guard(run, other(**changed))
    assert found.candidates.level != "like"
    assert found.random.level != "like"
    assert said in found.sentence
    assert "so the matrix is another" in found.sentence
    assert "Use the ranking" in found.sentence or "Trust neither" in found.sentence


def test_a_choice_of_candidates_is_not_laid_on_the_matrix(run, images):
    found = guard(run, images, counted_within_modules(images))
    assert (found.candidates.level != "like", found.random.level) == (True, "like")
    assert "so the choice of pairs differs and not the matrix" in found.sentence
    assert "probabilities only if 12.50% of the pairs are edges" in found.sentence
    assert shift_words(found.facts())["tone"] == "fair"


def test_without_random_pairs_nothing_is_blamed(run, images):
    found = guard(run, images, counted_within_modules(images), at_random=lambda: None)
    assert (found.random, found.facts()["random"]) == (None, None)
    assert "matrix" not in found.sentence
    assert "do not read scores as probabilities" in found.sentence or "Trust neither" in found.sentence


def test_random_pairs_are_drawn_only_where_candidates_differ(run, images):
    def never():
        raise AssertionError("random pairs were counted")

    assert guard(run, images, at_random=never).candidates.level == "like"


def test_random_pairs_are_pairs_of_two_genes_and_follow_the_seed(run, images):
    classifier, codes = TrainedNetwork.load(run).classifier, codes_at_hand(images)
    one, again, next_seed = (PairSample.at_random(codes, classifier, seed) for seed in (1, 1, 2))
    assert one.gene_a.size == RANDOM_PAIRS
    assert (one.gene_a < one.gene_b).all()
    assert set(one.gene_a.tolist()) | set(one.gene_b.tolist()) == set(range(codes.n_genes))
    assert (one.counts.sum(axis=(1, 2)) == codes.n_cells).all()
    np.testing.assert_array_equal(one.counts, again.counts)
    assert (one.gene_a != next_seed.gene_a).any()


def test_the_same_seed_gives_the_same_reference(run, images, tmp_path):
    again = copy_portable(run, tmp_path / "again", ("model.safetensors", "config.toml"))
    network, folds = TrainedNetwork.load(run), make_folds(images, RECIPE, SEED)
    sample = PairSample.of_rows(images, sample_rows(folds.train, SEED), network.classifier)
    at_random = random_pairs(images, network.classifier, SEED)
    save_reference(again, make_reference(network, sample, at_random, SEED), network.sha256)
    assert (again / FILE).read_bytes() == (run / FILE).read_bytes()


# ── in the commands ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_predict_tells_before_it_spends(run, images, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("pairscape.model.prediction.predict.write_findings", lambda *_: None)  # drawn in the test below
    asked = Prediction(prior=0.001)
    pairscape.predict(run, tmp_path / "s.parquet", images=images.path, prediction=asked, compute=HERE)
    said = capsys.readouterr().out
    assert said.index("like the training pairs") < said.index("wrote")
    assert "if 0.10% of the candidates are edges" in said
    assert "(distance 0." in said


def test_predict_attributes_what_differs(run, images, tmp_path, capsys):
    """Counted from the matrix, which has the codes; both distances are in the facts and in the report."""
    names = images.array("gene")
    lines = [f"{names[a]},{names[b]}" for a, b in within_modules()]
    (tmp_path / "pairs.csv").write_text("\n".join(["gene_a,gene_b", *lines]))
    found = pairscape.predict(
        run, images.path.with_name("expression.zarr"), tmp_path / "s.parquet", compute=HERE,
        source=PairSource(pairs=tmp_path / "pairs.csv"),
    ).attrs["shift"]  # fmt: skip
    assert found["level"] != "like"
    assert found["random"]["level"] == "like"
    assert f"alike (distance {found['random']['overall']:.1f})" in " ".join(capsys.readouterr().out.split())
    page = (tmp_path / "s.html").read_text()
    assert "so the choice of pairs differs and not the matrix" in page
    assert "Of random pairs" in page


def test_evaluate_tells_before_it_scores(run, images, tmp_path, capsys):
    """Four files suffice, the report has it too, and a run without a reference says so."""
    portable = copy_portable(run, tmp_path / "four")
    found = pairscape.evaluate(portable, images.path, out=tmp_path / "on")
    said = capsys.readouterr().out
    assert said.count(found["shift"]["sentence"]) == 1
    assert said.index("A distance of 1 is") < said.index("AUROC")
    assert tuple(found["shift"]["parts"]) == PARTS
    assert found["shift"]["sentence"] in (tmp_path / "on" / "report.html").read_text()
    assert (tmp_path / "on" / "history.csv").read_text().count("\n") == 1  # no epoch was trained here


def test_a_run_without_a_reference_says_that_nothing_is_compared(run, images, tmp_path, capsys, monkeypatch):
    for drawing in ("pairscape.model.training.run.write_report", "pairscape.model.prediction.predict.write_findings"):
        monkeypatch.setattr(drawing, lambda *_: None)
    early = copy_portable(run, tmp_path / "early", ("model.safetensors", "config.toml"))
    pairscape.predict(early, tmp_path / "t.parquet", images=images.path, compute=HERE)
    assert UNCOMPARED in capsys.readouterr().out
    assert "shift" not in pairscape.evaluate(early, images.path, out=tmp_path / "on")
    said = capsys.readouterr().out
    assert said.index(UNCOMPARED) < said.index("AUROC")


# ── the file ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def facts_of(**changed):
    """Changes a scalar of the training sample."""
    return lambda tensors, facts: facts["training"].update(changed)


def tensor_of(name, change):
    return lambda tensors, facts: tensors.update({name: change(tensors[name])})


def without(name):
    return lambda tensors, facts: (facts.pop(name, None), tensors.pop(name, None))


BAD = {
    "no cells": (facts_of(n_cells=0), "training: n_cells is 0, not a number of cells"),
    "cells of text": (facts_of(n_cells="x"), "training: n_cells is 'x', not a number of cells"),
    "no noise": (facts_of(noise=0), "training: noise is 0, not a variance above 0"),
    "an endless depth": (facts_of(depth=float("inf")), "training: depth is inf, not a number"),
    "a rule that nobody knows": (facts_of(scale=["rank"]), "training: scale is ['rank'], not a rule of binning"),
    "no scalars": (without("training"), "training is None, not a table"),
    "scalars of another kind": (lambda _, facts: facts.update(training=3), "training is 3, not a table"),
    "random pairs of another kind": (lambda _, facts: facts.update(random=[]), "random is [], not a table"),
    "no units": (lambda _, facts: facts.update(units={}), "units is {}, not a distance above 0 for each"),
    "units of another kind": (lambda _, facts: facts.update(units=5), "units is 5, not a distance above 0 for each"),
    "a unit of 0": (lambda _, facts: facts["units"].update(scores=0), "not a distance above 0 for each"),
    "no scores": (without("training.scores"), "training.scores is missing, or not float32 of 64"),
    "other bins": (
        tensor_of("training.density", lambda t: t[:8, :8].contiguous()),
        "training.density is missing, or not float32 of 16 × 16",
    ),
    "another type": (tensor_of("random.mean", torch.Tensor.double), "random.mean is missing, or not float32 of"),
    "a dropout beyond 1": (tensor_of("random.dropout", lambda t: t + 1), "random.dropout is not from 0 to 1"),
    "no numbers": (tensor_of("training.covariance", lambda t: t * torch.nan), "training.covariance is not from"),
    "no weights": (without("weights"), "was measured with other weights"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_reference_that_is_none_is_refused_in_one_line(run, tmp_path, case):
    change, said = BAD[case]
    folder = copy_portable(run, tmp_path / "run")
    tensors, facts, _ = load_tensors(folder / FILE, KIND)
    change(tensors, facts)
    save_tensors(folder / FILE, KIND, tensors, facts)
    with pytest.raises(InputError) as refused:
        TrainedRun.open(folder)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("content", ["half", "empty", "weights"])
def test_a_file_that_is_no_reference_is_refused(run, images, tmp_path, content):
    folder, whole = copy_portable(run, tmp_path / "run"), (run / FILE).read_bytes()
    weights = (run / "model.safetensors").read_bytes()
    (folder / FILE).write_bytes({"half": whole[: len(whole) // 2], "empty": b"", "weights": weights}[content])
    said = "is pairscape-model version 1, this Pairscape" if content == "weights" else "cannot be read as weights"
    with pytest.raises(InputError, match=said):
        pairscape.predict(folder, tmp_path / "s.parquet", images=images.path, quiet=True)
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    with pytest.raises(InputError, match=said):
        pairscape.evaluate(folder, images.path, out=tmp_path / "on", quiet=True)
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_a_reference_of_other_weights_is_refused(run, tmp_path):
    folder = rewrite_facts(copy_portable(run, tmp_path / "run", PORTABLE), natural=0.5)
    with pytest.raises(InputError, match="measured with other weights"):
        TrainedRun.open(folder)


# ── distances ────────────────────────────────────────────────────────────────────────────────────────────────────────


def observed(**changed):
    rng = np.random.default_rng(0)
    made = {
        "n_cells": 100, "n_genes": 50, "n_pairs": 400, "scale": "rank", "noise": 0.04, "depth": 20.0,
        "dropout": np.linspace(0.2, 0.9, 64), "occupied": np.linspace(0, 0.5, 64), "density": np.ones((4, 4)),
        "residual": np.zeros((4, 4)), "mean": rng.normal(size=3), "covariance": np.diag([1.0, 2.0, 3.0]),
        "scores": np.linspace(-5, 1, 64),
    }  # fmt: skip
    return PairStatistics(**(made | changed))


def test_distances_of_known_distributions():
    a = observed()
    assert earth_mover(a.scores, a.scores + 0.5) == pytest.approx(0.5)
    assert frechet(a, a) == pytest.approx(0, abs=1e-6)
    assert frechet(a, replace(a, mean=a.mean + np.array([3.0, 4.0, 0]))) == pytest.approx(5)
    wider = replace(a, covariance=np.diag([4.0, 2.0, 3.0]))  # deviations of 1 and 2 in one direction
    assert frechet(a, wider) == pytest.approx(1)


UNITS = dict.fromkeys(("dropout", "occupied", "density", "residual", "embedding", "scores"), 0.1)


def test_a_distance_is_told_in_units_of_two_halves():
    a = observed()
    found = compare(Reference(a, UNITS), replace(a, scores=a.scores + 0.5), PRIOR)
    assert found.parts["scores"].times == pytest.approx(0.5 / 0.1 / np.sqrt(0.5))  # whole samples have half the noise
    assert found.candidates.overall == pytest.approx(found.parts["scores"].times / np.sqrt(6))
    lines = shift_lines(found.facts())
    assert lines[0] == found.sentence
    assert shift_words(found.facts())["rows"][-1]["times"] == "7.1 ×"
    assert (shift_lines(None), shift_words(None)) == ([], None)


def test_random_pairs_are_compared_with_random_pairs():
    """And in the units of the training's pairs, for the noise that they have."""
    a = observed()
    reference = Reference(a, UNITS, random=replace(a, scores=a.scores - 2, noise=a.noise / 4))
    here = replace(a, scores=a.scores + 0.5)
    found = compare(reference, here, PRIOR, replace(reference.random, scores=a.scores - 1.9))
    assert found.parts["scores"].random == pytest.approx(0.1 / 0.1 / np.sqrt(1 / 8))
    assert found.parts["cells"].random is None
    assert found.random.level == "like"
    assert shift_words(found.facts())["rows"][-1]["random"] == "2.8 ×"


@pytest.mark.parametrize(
    ("candidates", "random", "trusted"),
    [
        (5.0, 5.0, "Use the ranking; do not read scores as probabilities."),
        (50.0, 5.0, "Use the ranking; do not read scores as probabilities."),
        (5.0, 50.0, "Use the ranking; do not read scores as probabilities."),
        (50.0, 50.0, "Trust neither the ranking nor the scores before you scored pairs whose answer you know."),
    ],
)
def test_what_is_trusted_follows_the_closer_of_both(candidates, random, trusted):
    a = observed()
    moved = {key: replace(a, scores=a.scores + times * 0.1 * np.sqrt(3)) for key, times in
             (("candidates", candidates), ("random", random))}  # fmt: skip
    found = compare(Reference(a, UNITS, random=a), moved["candidates"], PRIOR, moved["random"])
    assert found.candidates.overall == pytest.approx(candidates)
    assert found.sentence.endswith(trusted)


def test_the_benchmark_names_every_choice_of_pairs(run, images, other):
    found = benchmark.measure(run, [images.path, other(kept=0.1).path])
    assert [row["pairs"] for row in found] == [
        "test pairs", "20 test pairs", "300 test pairs", "one gene, hardly expressed, with all",
        "one gene, middling expressed, with all", "one gene, most expressed, with all", "test pairs, half positive",
        "test pairs, positives only", "all pairs",
    ]  # fmt: skip
    assert (found[0]["images"], found[0]["cells"], found[0]["random"]) == (images.path.name, 150, None)
    assert found[0]["overall"] < found[-2]["overall"]
