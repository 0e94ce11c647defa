"""Run folders without a training: a network that learned nothing, with all the files that a run has."""

import json

import torch

from model_fixtures import facts_of
from pairscape.model.evaluation.evaluate import store_facts
from pairscape.model.networks.classifier import PairClassifier
from pairscape.model.networks.weights import save_weights, write_config
from pairscape.model.options import Recipe, Rendering
from pairscape.model.training.train import HISTORY
from pairscape.pipeline.heatmaps.images import open_images
from pairscape.pipeline.storage.results import result_folder


def make_run(folder, store, seed=0, network="cnnc"):
    """A finished run folder on a store of images, as a training leaves it, but for what it would have measured."""
    images = open_images(store)
    torch.manual_seed(seed)
    classifier = PairClassifier(network, Rendering(), images.spec.binning.bins, 2, mirror=True).eval()
    with result_folder(folder, "network") as (run, _):
        save_weights(run / "model.safetensors", classifier.state_dict(), facts_of(classifier, network, natural=0.2))
        write_config(run / "config.toml", Recipe(), store_facts(images), seed)
        (run / "history.csv").write_text(",".join(HISTORY) + "\n" + ",".join("0" * len(HISTORY)) + "\n")
        (run / "predictions.parquet").write_bytes(b"PAR1")
        (run / "metrics.json").write_text(json.dumps({"store": store_facts(images), "operating_points": []}))
        (run / "report.html").write_text("<title>run · Pairscape report</title>")
    return folder


def earlier(folder, *_):
    """The same as an earlier version left it."""
    (folder / "receipt.json").unlink()
