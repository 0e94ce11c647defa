"""A small image store and a network trained on it, made once a session: what is passed on, and what is compared."""

import json
import shutil
from functools import lru_cache
from pathlib import Path

import numpy as np

from model_fixtures import curved_expression, gene_names, make_store, write_pairs
from pairscape.model.networks.weights import MODEL, load_weights, save_tensors
from pairscape.model.options import Recipe, Splitting, Training
from pairscape.model.training.run import train_run
from pairscape.pipeline.compute.session import Session
from pairscape.pipeline.heatmaps.images import Images
from pairscape.pipeline.options import Binning, PairSource

PORTABLE = ("model.safetensors", "config.toml", "reference.safetensors", "model-card.md")
RECIPE = Recipe(splitting=Splitting("pair"), training=Training(network="pairnet", epochs=1, balance="natural"))
SEED = 3


@lru_cache
def portable_store(root: Path) -> Images:
    """576 labelled pairs (straight gene, curved gene) of 48 genes over 150 cells, an eighth of them positive."""
    folder = root / "portable"
    folder.mkdir()
    expression, module, curved = curved_expression(150, 8, 3, seed=0)
    names, a, b = np.array(gene_names(module.size)), np.flatnonzero(~curved), np.flatnonzero(curved)
    a, b = np.repeat(a, b.size), np.tile(b, a.size)
    pairs = write_pairs(folder / "pairs.csv", names[a], names[b], (module[a] == module[b]).astype(int))
    return make_store(folder, expression, PairSource(pairs=pairs), Binning("rank", 16))


@lru_cache
def portable_run(root: Path) -> Path:
    """A run on that store, not to be changed."""
    folder = root / "portable" / "run"
    train_run(portable_store(root), folder, RECIPE, SEED, Session())
    return folder


def copy_portable(run: Path, folder: Path, names: tuple[str, ...] = PORTABLE) -> Path:
    """Some files of a run elsewhere."""
    folder.mkdir()
    for name in names:
        shutil.copy(run / name, folder)
    return folder


def rewrite_facts(folder: Path, **facts: object) -> Path:
    """The weights with other facts; one that is None is left out."""
    state, known, _ = load_weights(folder / "model.safetensors")
    kept = {name: value for name, value in (known | facts).items() if value is not None or name not in facts}
    save_tensors(folder / "model.safetensors", MODEL, state, kept)
    return folder


def write_metrics(folder: Path, metrics: object) -> None:
    """Figures of a run, or what stands in their place."""
    (folder / "metrics.json").write_text(json.dumps(metrics))
