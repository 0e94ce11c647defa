"""Matrices with known dependence, and image stores made from them by the project's own pipeline, for the model's tests.

The stores are made once a session: tests read them, and copy them before they change anything.
"""

import shutil
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
import sklearn.ensemble  # noqa: F401 - so that its OpenMP is there to be limited
import torch
from anndata import AnnData
from scipy import sparse
from threadpoolctl import threadpool_limits

import pairscape
from pairscape.model.networks.weights import NetworkFacts, class_names
from pairscape.model.options import Rendering
from pairscape.pipeline.genes.pairs import Pairs
from pairscape.pipeline.heatmaps.images import Images, open_images
from pairscape.pipeline.options import Binning, Compute, PairSource
from typed import run_command as run_command

# On shared cores, threads that wait for each other in turns of microseconds are up to ten times slower than one.
torch.set_num_threads(1)
threadpool_limits(1, user_api="openmp")

HERE = Compute("synchronous")


def make_pairs(gene_a, gene_b, label):
    """`Pairs` from any sequences of integers."""
    return Pairs(np.asarray(gene_a, np.int32), np.asarray(gene_b, np.int32), np.asarray(label, np.int8))


def gene_names(n):
    """Names that look neither like mammalian genes nor like barcodes."""
    return [f"GENE{i:03d}" for i in range(n)]


def as_anndata(expression, genes=None, cells=None):
    """(cell, gene) expression as AnnData, named as above unless names are given."""
    genes = gene_names(expression.shape[1]) if genes is None else genes
    cells = [f"c{i}x" for i in range(expression.shape[0])] if cells is None else cells
    return AnnData(sparse.csr_matrix(expression), obs=pd.DataFrame(index=cells), var=pd.DataFrame(index=genes))


def write_pairs(path, gene_a, gene_b, label=None):
    """A pair list as CSV with a header; returns its path."""
    columns = {"gene_a": gene_a, "gene_b": gene_b} | ({} if label is None else {"label": label})
    pd.DataFrame(columns).to_csv(path, index=False)
    return path


def module_expression(n_cells, n_modules, genes_per_module, seed):
    """Expression whose genes rise together within a module and are independent between modules; half of it is 0.

    Returns
    -------
    (cell, gene) float32, each cell with some expression; (gene,) the module of each gene
    """
    rng = np.random.default_rng(seed)
    module = np.arange(n_modules * genes_per_module) % n_modules
    factor = rng.normal(size=(n_cells, n_modules))
    value = 0.9 * factor[:, module] + 0.45 * rng.normal(size=(n_cells, module.size))
    value[:, 0] = np.maximum(value[:, 0], 0.01)  # ingest drops cells without expression
    return np.clip(value, 0, None).astype(np.float32), module


def curved_expression(n_cells, n_modules, genes_per_side, seed):
    """Straight genes follow their module's factor f, curved genes |f|: dependent, and hardly correlated. 30 % dropout.

    Returns
    -------
    (cell, gene) float32; (gene,) the module of each gene; (gene,) whether it is curved
    """
    rng = np.random.default_rng(seed)
    factor = rng.normal(size=(n_cells, n_modules))
    module = np.tile(np.repeat(np.arange(n_modules), genes_per_side), 2)
    curved = np.repeat([False, True], n_modules * genes_per_side)
    signal = np.where(curved, 1.5 * np.abs(factor[:, module]), factor[:, module] + 2.5)
    value = signal + 0.5 * rng.normal(size=signal.shape)
    return (np.clip(value, 0, None) * (rng.random(value.shape) < 0.7)).astype(np.float32), module, curved


def make_store(folder, expression, source, binning=Binning(), seed=0):
    """Ingest and count; `folder` then holds expression.zarr, codes.zarr and images.zarr."""
    folder.mkdir(parents=True, exist_ok=True)
    pairscape.ingest(as_anndata(expression), folder / "expression.zarr", preset="none", quiet=True)
    matrix, images, codes = (folder / f"{name}.zarr" for name in ("expression", "images", "codes"))
    pairscape.heatmaps(matrix, images, source=source, binning=binning, codes=codes, compute=HERE, seed=seed, quiet=True)
    return open_images(images)


def module_pairs(path, module):
    """The list of every unordered pair of genes, positive within a module."""
    names, (a, b) = np.array(gene_names(module.size)), np.triu_indices(module.size, 1)
    return write_pairs(path, names[a], names[b], (module[a] == module[b]).astype(int))


@lru_cache
def curved_store(root: Path, seed: int = 0, bins: int = 16) -> Images:
    """2,916 labelled pairs (straight gene, curved gene), 6 % positive: a module's. Correlation is blind to them."""
    folder = root / f"curved-{seed}-{bins}"
    folder.mkdir()
    expression, module, curved = curved_expression(300, 18, 3, seed)
    names, a, b = np.array(gene_names(module.size)), np.flatnonzero(~curved), np.flatnonzero(curved)
    a, b = np.repeat(a, b.size), np.tile(b, a.size)
    pairs = write_pairs(folder / "pairs.csv", names[a], names[b], (module[a] == module[b]).astype(int))
    return make_store(folder, expression, PairSource(pairs=pairs), Binning("rank", bins))


@lru_cache
def sharded_store(root: Path) -> Images:
    """4,560 labelled pairs of 96 genes in three shards, which takes 64 bins; 8 % positive."""
    folder = root / "sharded"
    folder.mkdir()
    expression, module = module_expression(120, 12, 8, seed=1)
    pairs = module_pairs(folder / "pairs.csv", module)
    return make_store(folder, expression, PairSource(pairs=pairs), Binning("max", 64))


def moved_store(images: Images, folder: Path) -> Images:
    """A copy of a store with its codes in another folder; the path it knows them by is gone."""
    shutil.copytree(images.path.parent, folder)
    return replace(
        open_images(folder / "images.zarr"), spec=replace(images.spec, codes=str(folder / "away/codes.zarr"))
    )


@lru_cache
def small_store(root: Path) -> Images:
    """66 labelled pairs of 12 genes over 60 cells, 18 % positive."""
    folder = root / "small"
    folder.mkdir()
    expression, module = module_expression(60, 4, 3, seed=2)
    pairs = module_pairs(folder / "pairs.csv", module)
    return make_store(folder, expression, PairSource(pairs=pairs), Binning("rank", 16))


def facts_of(classifier, network, *, natural, rendering=Rendering(), scale="rank", shown=0.25):
    """What the weights of an untrained classifier are saved with."""
    return NetworkFacts(
        network=network, rendering=rendering, bins=classifier.bins, scale=scale, n_cells=1, classes=classifier.classes,
        class_names=class_names(classifier.classes, directed=not classifier.mirror), mirror=classifier.mirror,
        shown=shown, natural=natural, loss_weights=None, gamma=0.0, epoch=1,
    )  # fmt: skip


@lru_cache
def kinds_store(root: Path, seed: int = 0, n_cells: int = 200, modules: int = 8) -> Images:
    """Pairs of genes that rise with a module's factor, fall with it, or have its ends: labels are kinds."""
    folder = root / f"kinds-{seed}-{n_cells}-{modules}"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    module, shape = np.tile(np.arange(modules), 6), np.repeat(np.arange(3), 2 * modules)
    factor = rng.normal(size=(n_cells, modules))[:, module]
    signal = np.select([shape == 0, shape == 1], [factor, -factor], 1.5 * np.abs(factor) - 1)
    value = np.clip(signal + 2 + 0.4 * rng.normal(size=signal.shape), 0, None)
    value *= rng.random(value.shape) < 0.8
    a, b = np.triu_indices(module.size, 1)
    low, high = np.minimum(shape[a], shape[b]), np.maximum(shape[a], shape[b])
    kind = np.where(low == high, "rising", np.where(high == 1, "falling", "u-shaped"))
    names, path = np.array([f"S{seed}G{i:02d}" for i in range(module.size)]), folder / "pairs.csv"
    kind = np.where(module[a] == module[b], kind, "none")
    pd.DataFrame({"gene_a": names[a], "gene_b": names[b], "kind": kind}).to_csv(path, index=False)
    pairscape.ingest(as_anndata(value.astype(np.float32), names), folder / "expression.zarr", preset="none", quiet=True)
    pairscape.heatmaps(
        folder / "expression.zarr", folder / "images.zarr", pairs=path, classes="kinds", scale="rank", bins=16,
        codes=folder / "codes.zarr", scheduler="synchronous", quiet=True,
    )  # fmt: skip
    return open_images(folder / "images.zarr")
