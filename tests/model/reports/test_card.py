"""A trained run is portable: four files suffice, the card says what it is, and what does not fit is refused."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import pairscape
from model_fixtures import HERE, run_command
from pairscape.model.edges.scores import read_facts, read_scores
from pairscape.model.networks.classifier import TrainedNetwork
from pairscape.model.networks.fast import Scorer
from pairscape.model.networks.weights import MODEL, load_weights, save_tensors
from pairscape.model.prediction.trained import TrainedRun
from pairscape.model.reports.card import candidate_words, label_words
from pairscape.pipeline.errors import InputError
from pairscape.pipeline.heatmaps.read import read_images
from portable_run import copy_portable, portable_run, portable_store, rewrite_facts, write_metrics


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return portable_store(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return portable_run(tmp_path_factory.getbasetemp())


@pytest.fixture
def portable(run, tmp_path):
    return copy_portable(run, tmp_path / "elsewhere")


def test_the_card_says_what_it_was_trained_on_and_what_it_is_worth(run, images):
    card, metrics = (run / "model-card.md").read_text(), json.loads((run / "metrics.json").read_text())
    for said in (
        "`expression.zarr`", images.provenance["matrix"]["sha256"], "`images.zarr`", images.spec.plan_hash,
        "| 0 | none |", "| 1 | pair |",
        "`rank`", "`pairnet`", "150 in every image", f"{metrics['n_test']:,} test pairs",
        f"{metrics['test']['auroc']:.3f}", "Labels only", "Not for decisions about patients", "## Licence", "seed: 3",
        "those of the list `pairs.csv`",
    ):  # fmt: skip
        assert said in card, said
    assert card.count("|---|") >= 4
    assert str(images.path.parent) not in card  # folders of the machine that trained mean nothing elsewhere


def test_sources_are_told_by_name():
    network = {"path": "s3://bucket/labels/string.csv", "sha256": "12ab", "source": "STRING", "organism": "mouse"}
    asked = {"regulators": "/home/me/tf.csv", "targets": "/home/me/targets/"}
    assert candidate_words({"pairs": asked}) == "regulators of `tf.csv` × targets of `targets`"
    assert label_words({"pairs": asked, "network": network}) == (
        "edges of the network STRING (mouse), `string.csv`, sha256 `12ab`"
    )


def test_a_report_made_again_makes_the_same_card(run, monkeypatch):
    monkeypatch.setattr(
        "pairscape.model.reports.run_report.write_report", lambda run: run / "report.html"
    )  # as at the end of training
    before = (run / "model-card.md").read_bytes()
    (run / "model-card.md").unlink()
    assert run_command("report", run) == 0
    assert (run / "model-card.md").read_bytes() == before


def test_four_files_score_as_the_whole_run_does(run, portable, images, tmp_path, monkeypatch):
    monkeypatch.setattr("pairscape.model.prediction.predict.write_findings", lambda *_: None)
    pairscape.predict(portable, tmp_path / "four.parquet", images=images.path, compute=HERE, quiet=True)
    four, facts = read_scores(tmp_path / "four.parquet").to_pandas()["score"], read_facts(tmp_path / "four.parquet")
    rows = np.arange(images.spec.n_pairs)
    whole = Scorer.of(TrainedNetwork.load(run), facts["prior"], "cpu")(*read_images(images, rows))[:, 1:].sum(axis=1)
    np.testing.assert_array_equal(four, whole.astype(np.float32))
    assert facts["shift"]["level"] == "like"
    assert facts["thresholds"] == {}  # they are in metrics.json, which stayed behind


# ── what is refused ──────────────────────────────────────────────────────────────────────────────────────────────────

BAD = {
    "another version of the network": ({"network_version": 2}, r"network_version is 2, not 1"),
    "a network that nobody knows": ({"network": "resnet"}, r"network is 'resnet', not a network that this"),
    "a list of networks": ({"network": ["cnnc"]}, r"network is \['cnnc'\], not a network that this"),
    "channels that nobody knows": ({"rendering": {"channels": "rgb"}}, r"rendering is .*'rgb'.*, not a rendering"),
    "a list of channels": ({"rendering": {"channels": ["log"]}}, r"rendering is .*\['log'\].*, not a rendering"),
    "a pool of text": ({"rendering": {"channels": "log", "pool": "2"}}, r"rendering is .*, not a rendering"),
    "an option that nobody knows": ({"rendering": {"channels": "log", "hue": 2}}, r"rendering is .*, not a rendering"),
    "an endless smoothing": ({"rendering": {"channels": "log", "sigma": 1e999}}, r"rendering is .*, not a rendering"),
    "no table of rendering": ({"rendering": "log"}, r"rendering is 'log', not a rendering"),
    "no share of edges": ({"natural": None}, r"does not say its natural"),
    "no bins": ({"bins": None}, r"does not say its bins"),
    "bins of text": ({"bins": "16"}, r"bins is '16', not a number of bins"),
    "another rule of binning": ({"scale": "log2"}, r"scale is 'log2', not a rule of binning"),
    "five classes": ({"classes": 5}, r"classes is 5, not 2, 3 or 7"),
    "classes that are no whole number": ({"classes": 2.0}, r"classes is 2.0, not 2, 3 or 7"),
    "names of three classes": ({"class_names": ["a", "b", "c"]}, r"class_names has 3 entries for 2 classes"),
    "a share beyond 1": ({"natural": 1.5}, r"natural is 1.5, not a share"),
    "a share that is a word": ({"natural": "rare"}, r"natural is 'rare', not a share"),
    "no negatives shown": ({"shown": 1}, r"shown is 1, not a share of positives between 0 and 1"),
    "negative weights": ({"loss_weights": [1.0, -1.0]}, r"loss_weights is .*, not weights above 0"),
    "another architecture": ({"network": "deep-cell-1"}, r"does not hold the weights of the network that it names"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_does_not_fit_is_refused_in_one_line(portable, case):
    facts, said = BAD[case]
    rewrite_facts(portable, **facts)
    with pytest.raises(InputError, match=said) as refused:
        TrainedNetwork.load(portable)
    assert "\n" not in str(refused.value)


BAD_FIGURES = {
    "a list": ([1, 2], r"metrics.json holds '\[1, 2\]', not the figures of a run"),
    "a number": (3, r"metrics.json holds '3', not the figures of a run"),
    "nothing": (None, r"metrics.json holds 'None', not the figures of a run"),
    "points that are a number": ({"operating_points": 5}, r"5 is no operating point"),
    "a point without aim": ({"operating_points": [{"threshold": 0.5}]}, r"is no operating point"),
    "a threshold of text": (
        {"operating_points": [{"aim": "precision 0.9", "threshold": "high"}]},
        r"is no operating point, an aim with a threshold from 0 to 1",
    ),
    "a threshold beyond 1": (
        {"operating_points": [{"aim": "precision 0.9", "threshold": 1.5}]},
        r"is no operating point, an aim with a threshold from 0 to 1",
    ),
}


@pytest.mark.parametrize("case", BAD_FIGURES)
def test_figures_that_are_none_are_refused_in_one_line(portable, case):
    metrics, said = BAD_FIGURES[case]
    write_metrics(portable, metrics)
    with pytest.raises(InputError, match=said) as refused:
        TrainedRun.open(portable)
    assert "\n" not in str(refused.value)


def test_other_shapes_and_lost_weights_are_refused(portable):
    path = portable / "model.safetensors"
    _, facts, _ = load_weights(path)
    state = load_file(path)
    name, tensor = next((n, t) for n, t in state.items() if t.ndim > 1)
    for changed, said in (
        ({k: v for k, v in state.items() if k != name}, f"{name} is missing"),
        (state | {"more": torch.zeros(2)}, "more is none of its weights"),
        (state | {name: tensor[:1]}, f"{name} is float32 1 × "),
        (state | {name: tensor.double()}, f"{name} is float64"),
    ):
        save_tensors(path, MODEL, changed, facts)
        with pytest.raises(InputError, match=said):
            TrainedNetwork.load(portable)


@pytest.mark.parametrize("lost", ["weights", "reference", "facts"])
def test_a_damaged_run_is_refused_before_a_matrix_is_encoded(portable, images, lost, tmp_path, capfd):
    file = portable / ("reference.safetensors" if lost == "reference" else "model.safetensors")
    if lost == "facts":
        rewrite_facts(portable, bins=64)
    else:
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    (tmp_path / "out").mkdir()
    matrix = images.path.with_name("expression.zarr")
    assert run_command("predict", portable, matrix, tmp_path / "out" / "s.parquet", "--all-pairs", "--quiet") == 2
    assert str(file.absolute()) in capfd.readouterr().err.replace("\n", "")
    assert list((tmp_path / "out").iterdir()) == []
