"""The README's commands, as typed, on the reader's own small matrix."""

import re
import shlex
from pathlib import Path

import anndata
import dask
import numpy as np
import pytest
from distributed import LocalCluster

from model_fixtures import curved_expression, gene_names, run_command

README = Path(__file__).parents[1] / "README.md"


def commands():
    """Every `pairscape …` line of the README's code blocks."""
    blocks = re.findall(r"```\n(.*?)```", README.read_text(encoding="utf-8"), flags=re.S)
    return [line.strip() for block in blocks for line in block.splitlines() if line.strip().startswith("pairscape ")]


def test_the_readme_shows_the_commands_that_users_come_for():
    shown = {line.split()[1] for line in commands()}
    assert {"ingest", "plan", "heatmaps", "train", "evaluate", "show"} <= shown


@pytest.mark.cluster
@pytest.mark.timeout(900)  # some twenty jobs, one after the other
def test_the_readmes_commands_work_as_typed(tmp_path, monkeypatch, capsys):
    """In their order, all on one real scheduler, that of the address too; the genes are ours, training is cut short."""
    monkeypatch.chdir(tmp_path)
    expression, _, _ = curved_expression(200, 4, 6, seed=0)
    write_cells("cells.h5ad", expression)
    write_cells("other.h5ad", curved_expression(120, 4, 6, seed=1)[0])
    with LocalCluster(n_workers=1, threads_per_worker=1, processes=True, dashboard_address="127.0.0.1:0") as cluster:
        monkeypatch.setitem(dask.config.config, "scheduler-address", cluster.scheduler_address)
        for line in commands():
            words = shlex.split(line, comments=True)[1:]
            words = [cluster.scheduler_address if word.startswith("tcp://") else word for word in words]
            words = [{"CD79A": "GENE000", "CD79B": "GENE001", "20": "4"}.get(word, word) for word in words]
            words += {"train": ["--epochs", "1"], "tune": ["--trial-epochs", "1"]}.get(words[0], [])
            status = run_command(*words)
            assert status == 0, (line, capsys.readouterr().err)
    assert (tmp_path / "run" / "report.html").is_file()
    assert (tmp_path / "pair.png").is_file()


def write_cells(path, expression):
    cells = [f"cell{i}" for i in range(expression.shape[0])]
    counts = np.random.default_rng(0).poisson(3 * np.expm1(expression))  # as a user has them
    table = anndata.AnnData(counts.astype(np.float32))
    table.obs_names, table.var_names = cells, gene_names(expression.shape[1])
    half = np.arange(len(cells)) % 2
    table.obs["cell_type"] = np.where(half, "CD14 Mono", "CD4 T")
    table.obs["condition"] = np.where(np.arange(len(cells)) % 4 < 2, "stim", "ctrl")
    table.write_h5ad(path)


def test_the_picture_is_there():
    for path in re.findall(r"\]\(((?:docs|benchmarks)/[^)]+)\)", README.read_text(encoding="utf-8")):
        assert (README.parent / path).is_file(), path
