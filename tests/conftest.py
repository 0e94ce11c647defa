"""What any test may use: a small matrix as expression store, silence, and the way this project refuses."""

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

# One thread a process, set before any of these libraries is loaded: two that share the cores of a machine wait for each
# other most of their time. Threads that numba starts, for scanpy or loompy, set the number of torch's too.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("NUMBA_NUM_THREADS", "1")

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from hypothesis import settings
from numpy.typing import NDArray
from scipy import sparse

from pairscape.pipeline import options
from pairscape.pipeline.compute.progress import Silent
from pairscape.pipeline.errors import InputError
from pairscape.pipeline.heatmaps import layout, shards
from pairscape.pipeline.matrix.ingest import ingest

# Files that take longest, first: a process that is given one last would work alone at the end.
LONGEST = (
    "test_benchmarks", "test_surroundings", "test_predict", "test_readme", "test_heatmaps", "test_numerics",
    "test_ingest", "test_prepare", "test_tune", "test_museum", "test_resume", "test_train", "test_stream",
    "test_spellings", "test_annotated", "test_local",
)  # fmt: skip

Dense = NDArray[np.float32]
Refuses = Callable[..., AbstractContextManager[None]]

# The first example of a property may compile a kernel, and this machine may be busy: no deadline for a single example.
settings.register_profile("pairscape", deadline=None, max_examples=60)
settings.load_profile("pairscape")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Order files by how long they take; the order of tests within a file stays."""
    items.sort(key=lambda item: LONGEST.index(item.path.stem) if item.path.stem in LONGEST else len(LONGEST))


def simulated(n_cells: int = 150, n_genes: int = 46, seed: int = 0) -> Dense:
    """Log expression, (N, G): genes of all densities, neighbours dependent, two constant where they are expressed."""
    rng = np.random.default_rng(seed)
    factor = rng.gamma(2.0, 1.0, (n_cells, n_genes))
    values = np.log1p(factor + np.roll(factor, 1, axis=1)).astype(np.float32)
    expressed = rng.random((n_cells, n_genes)) < np.linspace(0.03, 1.1, n_genes)
    values[:, [5, n_genes - 1]] = 1.5
    expressed[0] = True  # so that ingest drops no gene
    return np.where(expressed, values, np.float32(0))


def counted(n_cells: int = 300, n_genes: int = 120, seed: int = 0) -> Dense:
    """Counts of cells of unlike depth, genes of unlike means."""
    rng = np.random.default_rng(seed)
    mean = rng.gamma(0.5, 2.0, n_genes) * rng.lognormal(0, 0.5, (n_cells, 1)) * rng.gamma(1.0, 1.0, (n_cells, n_genes))
    return rng.poisson(mean).astype(np.float32)


def store_expression(path: Path, dense: Dense) -> Path:
    """Write log expression, (N, G), as expression store with genes G0, G1, …"""
    cells, genes = ([f"{kind}{i}" for i in range(n)] for kind, n in zip("cG", dense.shape, strict=True))
    adata = AnnData(sparse.csr_matrix(dense), obs=pd.DataFrame(index=cells), var=pd.DataFrame(index=genes))
    ingest(adata, path, preset="none", overwrite=True)
    return path


def small_shards(patch: pytest.MonkeyPatch, pairs: int) -> None:
    """Image stores with so many images a shard and 8 a chunk, in this process only: many shards at little cost."""
    patch.setattr(options, "CHUNK_PAIRS", 8)
    patch.setattr(layout, "CHUNK_PAIRS", 8)
    patch.setattr(shards, "CHUNK_PAIRS", 8)
    patch.setattr(options, "SHARD_PAIRS", pairs)


class Stages:
    """Progress that remembers: stage → [total, done]."""

    def __init__(self) -> None:
        self.seen: dict[str, list[int]] = {}

    def start(self, stage: str, total: int) -> None:
        self.seen[stage] = [total, 0]

    def advance(self, units: int) -> None:
        self.seen[list(self.seen)[-1]][1] += units


@pytest.fixture(scope="session")
def dense() -> Dense:
    """The matrix of `expression_path`, (N, G) float32."""
    return simulated()


@pytest.fixture(scope="session")
def expression_path(tmp_path_factory: pytest.TempPathFactory, dense: Dense) -> Path:
    """A small expression store: 150 cells × 46 genes, G0 … G45."""
    return store_expression(tmp_path_factory.mktemp("matrix") / "expression.zarr", dense)


@pytest.fixture
def silent() -> Silent:
    """Progress that nobody watches."""
    return Silent()


@pytest.fixture
def stages() -> Stages:
    """Progress that can be asked what was done."""
    return Stages()


@pytest.fixture
def refuses() -> Refuses:
    """`with refuses("file.csv", "gene"):` expects an error of one line that holds these words."""

    @contextmanager
    def expect(*words: str, kind: type[Exception] = InputError) -> Iterator[None]:
        with pytest.raises(kind) as caught:
            yield
        message = str(caught.value)
        assert "\n" not in message
        assert [word for word in words if word not in message] == [], message

    return expect
