"""Networks whose classes are kinds of dependence: trained, measured and described."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

import pairscape
from model_fixtures import kinds_store, make_pairs
from pairscape.model.batches.folds import sides
from pairscape.model.batches.store_folds import is_directed
from pairscape.model.evaluation.metrics import auroc, kind_scores
from pairscape.model.networks.classifier import TrainedNetwork, turned_labels
from pairscape.model.networks.weights import NetworkFacts
from pairscape.pipeline.genes.kinds import KINDS


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    root = tmp_path_factory.mktemp("kinds")
    images = kinds_store(root)
    pairscape.train(images.path, root / "run", epochs=6, batch_size=64, learning_rate=5e-3, quiet=True)
    return root / "run"


@pytest.fixture(scope="module")
def metrics(run):
    return json.loads((run / "metrics.json").read_text())


def test_a_network_of_kinds_finds_and_names_them(metrics, run):
    kinds = metrics["kinds"]
    assert kinds["names"] == list(KINDS)
    assert metrics["test"]["auroc"] > 0.9
    assert kinds["named_right"] > 0.8
    assert kinds["auroc"]["rising"] > 0.9
    assert kinds["auroc"]["exclusive"] is None  # there are none
    assert np.sum(kinds["confusion"]) == metrics["n_test"] == sum(kinds["n"])
    assert "direction" not in metrics


def test_its_facts_say_the_kinds_and_a_mirror_changes_none(run):
    network = TrainedNetwork.open(run)
    assert (network.facts.classes, network.facts.class_names) == (7, KINDS)
    assert network.facts.mirror
    assert turned_labels(7) == list(range(7))
    counts = torch.randint(0, 9, (4, 16, 16), dtype=torch.int32)
    zero = counts[:, 0, 0]
    said = [network.classifier.probabilities(some, zero) for some in (counts, counts.mT)]
    torch.testing.assert_close(*said)


def test_report_and_card_have_a_table_of_the_kinds(run):
    page, card = (run / "report.html").read_text(), (run / "model-card.md").read_text()
    assert "Which kind of dependence" in page
    assert "| u-shaped |" in card
    assert "| 6 | opposite |" in card


def test_a_kind_is_no_direction(tmp_path):
    images = kinds_store(tmp_path)
    assert (images.array("label") == 2).any()
    assert not is_directed(images)
    pairs = replace(make_pairs([0, 1], [2, 3], [1, 2]), class_names=KINDS)
    assert [side.tolist() for side in sides(pairs, slice(0, 2))] == [[0, 1], [2, 3]]


def test_figures_of_kinds_by_hand():
    label = np.array([0, 0, 1, 1, 2])
    p = np.array([[0.9, 0.1, 0.0], [0.4, 0.1, 0.5], [0.2, 0.7, 0.1], [0.6, 0.1, 0.3], [0.1, 0.2, 0.7]])
    found = kind_scores(label, p, ("none", "up", "down"), threshold=0.5)
    assert found["named_right"] == pytest.approx(2 / 3)
    assert found["confusion"] == [[1, 0, 1], [1, 1, 0], [0, 0, 1]]
    assert found["auroc"] == {"up": auroc(np.array([0, 0, 1, 1]), 1 - p[:4, 0]), "down": 1.0}


@pytest.mark.parametrize(("change", "words"), [
    ({"classes": 5, "class_names": KINDS[:5]}, ["classes is 5", "2, 3 or 7"]),
    ({"class_names": ("none", *"abcdef")}, ["class_names", "u-shaped"]),
    ({"class_names": KINDS[:6]}, ["class_names"]),
])  # fmt: skip
def test_facts_of_other_classes_are_refused(change, words, run, refuses):
    facts = TrainedNetwork.open(run).facts
    table = facts.table() | {key: list(v) if isinstance(v, tuple) else v for key, v in change.items()}
    with refuses(*words):
        NetworkFacts.from_table(table, run / "model.safetensors")
