"""A place is one place, however it is spelled: relative, absolute, as Path, as file:// URL; where it may, memory://."""

import shutil
from pathlib import Path

import fsspec
import pytest

import pairscape
from model_fixtures import HERE, as_anndata, gene_names, module_expression, small_store
from pairscape.model.options import Splitting, Training
from pairscape.pipeline.codes import cache
from pairscape.pipeline.datasets.designs import Atlas, Planting
from pairscape.pipeline.options import PairSource

PLANTING = Planting("linear", 2, negatives_per_positive=1)
ALL, RECIPE = PairSource(all_pairs=True), {"splitting": Splitting("pair"), "training": Training(epochs=1)}
A, B = gene_names(2)
SPELLINGS = {
    "relative": lambda folder, name: name,
    "absolute": lambda folder, name: str(folder / name),
    "Path": lambda folder, name: Path(name),
    "file://": lambda folder, name: f"file://{folder}/{name}",
}
# Command → what it does with places in a folder, and the file that it makes there.
COMMANDS = {
    "ingest": (lambda at: pairscape.ingest(at("m.h5ad"), at("new.zarr"), quiet=True), "new.zarr/zarr.json"),
    "plan": (
        lambda at: pairscape.plan(at("expression.zarr"), source=ALL, codes=at("c.zarr"), compute=HERE, quiet=True),
        "expression.zarr/zarr.json",
    ),
    "heatmaps": (
        lambda at: pairscape.heatmaps(
            at("expression.zarr"), at("new.zarr"), source=ALL, codes=at("c.zarr"), compute=HERE, quiet=True
        ),
        "c.zarr/zarr.json",
    ),
    "heatmaps of h5ad": (
        lambda at: pairscape.heatmaps(at("m.h5ad"), at("new.zarr"), source=ALL, compute=HERE, quiet=True),
        "new.codes.zarr/zarr.json",
    ),
    "verify": (lambda at: pairscape.verify(at("images.zarr"), quiet=True), "images.zarr/zarr.json"),
    "repair": (
        lambda at: pairscape.verify(
            at("images.zarr"), repair=True, codes=at("codes.zarr"), expression=at("expression.zarr"), quiet=True
        ),
        "images.zarr/zarr.json",
    ),
    "show": (lambda at: pairscape.show(at("images.zarr"), A, B, output=at("a.png")), "a.png"),
    "show of scores": (lambda at: pairscape.show(at("s.parquet"), A, B, output=at("a.png")), "a.png"),
    "train": (lambda at: pairscape.train(at("images.zarr"), at("new"), **RECIPE, quiet=True), "new/metrics.json"),
    "evaluate": (
        lambda at: pairscape.evaluate(at("run"), at("images.zarr"), out=at("on"), quiet=True),
        "on/metrics.json",
    ),
    "predict": (
        lambda at: pairscape.predict(
            at("run"), at("expression.zarr"), at("new.parquet"), source=ALL, codes=at("c.zarr"), compute=HERE,
            quiet=True,
        ),
        "c.zarr/zarr.json",
    ),
    "predict of images": (
        lambda at: pairscape.predict(at("run"), at("new.parquet"), images=at("images.zarr"), compute=HERE, quiet=True),
        "new.parquet",
    ),
    "export": (lambda at: pairscape.export(at("s.parquet"), at("edges.csv"), quiet=True), "edges.csv"),
    "export with expression": (
        lambda at: pairscape.export(at("s.parquet"), at("edges.h5ad"), expression=at("expression.zarr"), quiet=True),
        "edges.h5ad",
    ),
    "compare": (
        lambda at: pairscape.compare(at("s.parquet"), at("s2.parquet"), at("t.parquet"), quiet=True), "t.parquet",
    ),
    "report": (lambda at: pairscape.report(at("run")), "run/report.html"),
    "plant": (
        lambda at: pairscape.plant(at("m.h5ad"), at("new.zarr"), planting=PLANTING, quiet=True),
        "new.tsv",
    ),
    "simulate": (
        lambda at: pairscape.simulate(at("new.zarr"), atlas=Atlas(50, 40, 0.1), compute=HERE, quiet=True),
        "new.zarr/zarr.json",
    ),
}  # fmt: skip
REMOTE = ["heatmaps", "heatmaps of h5ad", "verify", "repair", "train", "evaluate"]  # all their places may be URLs


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    """A folder with something of every kind."""
    folder = tmp_path_factory.mktemp("spelled") / "f"
    shutil.copytree(small_store(tmp_path_factory.getbasetemp()).path.parent, folder)
    as_anndata(module_expression(60, 4, 3, seed=2)[0]).write_h5ad(folder / "m.h5ad")
    pairscape.train(folder / "images.zarr", folder / "run", **RECIPE, quiet=True)
    pairscape.predict(
        folder / "run", folder / "expression.zarr", folder / "s.parquet", source=ALL, codes=folder / "codes.zarr",
        compute=HERE, quiet=True,
    )  # fmt: skip
    shutil.copyfile(folder / "s.parquet", folder / "s2.parquet")
    return folder


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("command", COMMANDS)
def test_a_place_on_a_disk(command, spelling, template, tmp_path, monkeypatch):
    folder = shutil.copytree(template, tmp_path / "f")
    monkeypatch.chdir(folder)
    run, made = COMMANDS[command]
    run(lambda name: SPELLINGS[spelling](folder, name))
    assert (folder / made).is_file()
    assert not (folder / "file:").exists()


@pytest.mark.parametrize("command", REMOTE)
def test_a_place_in_a_storage(command, template, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(cache, "_held", {})
    monkeypatch.chdir(tmp_path)
    memory = fsspec.filesystem("memory")
    memory.put(str(template), "/spelled", recursive=True)
    run, made = COMMANDS[command]
    try:
        run(lambda name: f"memory://spelled/{name}")
        assert memory.isfile(f"/spelled/{made}")
    finally:
        memory.rm("/spelled", recursive=True)
    assert not (tmp_path / "memory:").exists()
