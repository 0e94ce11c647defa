"""Every benchmark runs once, small, so that the command behind a published figure never rots."""

import numpy as np
import pytest
from model_fixtures import small_store

from benchmarks import encode, exact, kernel, picture


def test_kernel_figures():
    figures = kernel.measure(cells=300)
    assert figures["cells"] == 300
    assert min(value for name, value in figures.items() if name.endswith("us_per_pair")) >= 0


def test_the_simulated_matrix_has_the_density_it_promises():
    expression = kernel.simulate(2000, 320, 1.0)
    assert 0.1 < expression.nnz / np.prod(expression.shape) < 0.17


@pytest.mark.cluster
def test_encode_figures(tmp_path):
    figures = encode.measure(tmp_path, cells=300, genes=50, density=0.1)
    assert figures["scanpy_over_pairscape"] > 0
    assert min(figures[f"{name}_bytes"] for name in ("scanpy_peak", "pairscape_peak_worker", "codes")) > 0
    assert {path.name for path in tmp_path.iterdir()} == {"300x50x0.1.zarr", "300x50x0.1.h5ad"}


def test_the_input_of_encode_has_the_density_it_promises(monkeypatch):
    monkeypatch.setattr(encode, "MADE_CELLS", 100)
    entries = [genes.size for _, genes, _ in encode.blocks_of_counts(250, 400, 0.05)]
    assert len(entries) == 3
    assert 0.04 < sum(entries) / (250 * 400) < 0.06


def test_picture(tmp_path):
    group = np.repeat(["true positive", "true negative"], 3)
    names = np.array([f"G{i}" for i in range(6)])
    images = np.random.default_rng(0).poisson(1, (6, 8, 8)).astype(np.uint32)
    np.savez(tmp_path / "examples.npz", images=images, group=group, gene_a=names, gene_b=names)
    picture.draw(tmp_path, tmp_path / "p.png")
    assert (tmp_path / "p.png").stat().st_size > 10_000


def test_the_comparison_with_the_oracle(tmp_path):
    small_store(tmp_path)
    assert exact.compare(tmp_path / "small") == {"images": 66, "differ": 0, "wrong_sum": 0}
