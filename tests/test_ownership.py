"""What is not ours is never deleted or overwritten: every command with a target, against what real folders hold there.

A command that is refused ends with status 2 and one line, and every file is what it was.
"""

import json
import shutil
from pathlib import Path

import anndata as ad
import matplotlib
import numpy as np
import pytest
import zarr
from anndata.io import write_elem
from matplotlib.figure import Figure

import pairscape
from heatmap_jobs import contents
from made_runs import earlier, make_run
from model_fixtures import as_anndata, module_expression, module_pairs, run_command
from pairscape.model.options import Training
from pairscape.pipeline.options import Binning, Compute, PairSource

matplotlib.use("Agg")
HERE = ("--scheduler", "synchronous", "--quiet")
PAIRS = ("--pairs", "{base}/pairs.csv")
SCORED = Compute("synchronous")
NEW = ("{base}/e.zarr", "{base}/new.zarr", *PAIRS)
DRAW = ("{base}/i.zarr", "GENE000", "GENE001", "-o", "{t}")
PREDICT = ("{base}/run", "{base}/e.zarr", "{t}", *PAIRS, *HERE)
MATRIX = ("{base}/e.zarr", "{t}", "--quiet")
SCORES = ("{base}/s.parquet", "{t}")
OUT = ("{base}/run", "{base}/i.zarr", "--out", "{t}")
IMAGES = ("{base}/i.zarr", "{t}")
CELLS = ("{base}/cells.h5ad", "{t}")


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """Stores of 60 cells and 12 genes with labelled pairs, the folder of a network, and a file of scores."""
    folder = tmp_path_factory.mktemp("base")
    expression, module = module_expression(60, 4, 3, seed=2)
    as_anndata(expression).write_h5ad(folder / "cells.h5ad")
    pairscape.ingest(folder / "cells.h5ad", folder / "e.zarr", preset="none", quiet=True)
    source = PairSource(pairs=module_pairs(folder / "pairs.csv", module))
    options = {"source": source, "compute": SCORED, "codes": folder / "c.zarr", "quiet": True}
    pairscape.heatmaps(folder / "e.zarr", folder / "i.zarr", binning=Binning("rank", 16), **options)
    make_run(folder / "run", folder / "i.zarr")
    pairscape.predict(folder / "run", folder / "e.zarr", folder / "s.parquet", **options)
    shutil.copyfile(folder / "s.parquet", folder / "s2.parquet")
    return folder


# ── what lies at the target ──────────────────────────────────────────────────────────────────────────────────────────


def text(name="thesis.txt"):
    def put(place, _):
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_text("years of work")

    return put


def a_file(content=b"years of work"):
    return lambda place, _: place.write_bytes(content)


def written_by_anndata(place, base):
    """Whoever opens our store and writes it again carries `uns` along."""
    root = zarr.open_group(str(place), mode="w", zarr_format=3)
    write_elem(root, "/", ad.read_zarr(base / "e.zarr"), dataset_kwargs={"shards": None})


def of_format_2(place, base):
    zarr.open_group(str(place), mode="w", zarr_format=2).create_array("X", data=np.ones((3, 3)))


def ours(name, *more):
    def put(place, base):
        shutil.copytree(base / name, place)
        for change in more:
            change(place, base)

    return put


def with_element(key):
    plain = {"shards": None}
    return lambda place, _: write_elem(zarr.open_group(str(place), mode="r+"), key, np.ones(3), dataset_kwargs=plain)


def with_link(place, base):
    (place / "X" / "link").symlink_to(base)


def someones_site(place, _):
    """A folder whose files have the names of a run's."""
    place.mkdir()
    (place / "config.toml").write_text('title = "my site"\n')
    (place / "report.html").write_text("<h1>my site</h1>")


def an_evaluation(place, base):
    shutil.copytree(base / "run", place)
    (place / "model.safetensors").unlink()
    said = json.loads((place / "receipt.json").read_text())
    (place / "receipt.json").write_text(json.dumps(said | {"holds": "evaluation"}))


def beside(name, put):
    return lambda place, base: put(place.with_name(name), base)


def a_picture(place, _):
    figure = Figure()
    figure.subplots().plot([1, 2])
    figure.savefig(place)


def ours_file(name):
    return lambda place, base: shutil.copy(base / name, place)


def scores_and_a_page(place, base):
    shutil.copy(base / "s.parquet", place)
    place.with_suffix(".html").write_text("me")


def a_marked_demo(place, base):
    place.mkdir()
    (place / ".pairscape-demo").touch()
    ours("run", text("results/figure1.txt"))(place / "run", base)


def logged(place, _):
    place.write_text("my laboratory notes\n")


FOREIGN = {  # command, what lies at the target, name of the target, arguments of the command
    "ingest: a folder with a zarr.json": ("ingest", text("zarr.json"), "t.zarr", CELLS),
    "ingest: a store written by anndata": ("ingest", written_by_anndata, "t.zarr", CELLS),
    "ingest: a store of format 2": ("ingest", of_format_2, "t.zarr", CELLS),
    "ingest: ours with a thesis": ("ingest", ours("e.zarr", text()), "t.zarr", CELLS),
    "ingest: ours with a note deep in": ("ingest", ours("e.zarr", text("X/n.txt")), "t.zarr", CELLS),
    "ingest: ours with a map of the cells": (
        "ingest", ours("e.zarr", with_element("obsm/X_umap")), "t.zarr", CELLS,
    ),
    "ingest: ours with clusters": ("ingest", ours("e.zarr", with_element("obs/leiden")), "t.zarr", CELLS),
    "ingest: ours with a link": ("ingest", ours("e.zarr", with_link), "t.zarr", CELLS),
    "ingest: images": ("ingest", ours("i.zarr"), "t.zarr", CELLS),
    "ingest: a file": ("ingest", a_file(), "t.zarr", CELLS),
    "ingest: its own source": ("ingest", ours("e.zarr"), "t.zarr", ("{t}", "{t}")),
    "ingest: a foreign folder of the job": (
        "ingest", beside(".t.zarr.wip", text()), "t.zarr", CELLS,
    ),
    "simulate: a store written by anndata": (
        "simulate", written_by_anndata, "t.zarr", ("{t}", "--cells", 60, "--genes", 40, *HERE),
    ),
    "plant: ours with clusters": ("plant", ours("e.zarr", with_element("obs/x")), "t.zarr", MATRIX),
    "plant: a list of somebody else": ("plant", beside("t.tsv", a_file()), "t.zarr", MATRIX),
    "train: somebody's site": ("train", someones_site, "r", IMAGES),
    "train: a run with a thesis": ("train", ours("run", text()), "r", IMAGES),
    "train: a run with a folder of figures": ("train", ours("run", text("figures/1.txt")), "r", IMAGES),
    "train: a run with scores": ("train", ours("run", text("scores.parquet")), "r", IMAGES),
    "train: a run with an evaluation of nobody": ("train", ours("run", text("on-x/report.html")), "r", IMAGES),
    "train: an earlier run with a thesis": ("train", ours("run", earlier, text()), "r", IMAGES),
    "train: an evaluation": ("train", an_evaluation, "r", IMAGES),
    "train: images": ("train", ours("i.zarr"), "r", IMAGES),
    "train: a file": ("train", a_file(), "r", IMAGES),
    "train: a foreign folder of the job": (
        "train", lambda place, base: (ours("run")(place, base), text()(place.with_name(".r.wip"), base)), "r",
        IMAGES,
    ),
    "train --seeds: somebody's site": ("train", someones_site, "r", (*IMAGES, "--seeds", 2)),
    "train --seeds: a run with a thesis": ("train", ours("run", text()), "r", (*IMAGES, "--seeds", 2)),
    "evaluate: the run itself": ("evaluate", ours("run"), "r", ("{t}", "{base}/i.zarr", "--out", "{t}")),
    "evaluate: another run": ("evaluate", ours("run"), "r", OUT),
    "evaluate: an earlier run": ("evaluate", ours("run", earlier), "r", OUT),
    "evaluate: somebody's site": ("evaluate", someones_site, "r", OUT),
    "evaluate: an evaluation with a thesis": (
        "evaluate", lambda place, base: (an_evaluation(place, base), text()(place, base)), "r",
        OUT,
    ),
    "evaluate: the images": ("evaluate", ours("i.zarr"), "r", ("{base}/run", "{t}", "--out", "{t}")),
    "tune: a run": ("tune", ours("run"), "r", ("{base}/i.zarr", "{t}", "--trials", 1, *HERE)),
    "tune: a folder with a journal": ("tune", text("journal.log"), "r", ("{base}/i.zarr", "{t}", "--trials", 1, *HERE)),
    "tune: somebody's site": ("tune", someones_site, "r", ("{base}/i.zarr", "{t}", "--trials", 1, *HERE)),
    "heatmaps: a folder": ("heatmaps", text(), "t.zarr", ("{base}/e.zarr", "{t}", *PAIRS, *HERE)),
    "heatmaps: its own matrix": ("heatmaps", ours("e.zarr"), "t.zarr", ("{t}", "{t}", *PAIRS, *HERE)),
    "heatmaps: codes with a thesis": (
        "heatmaps", ours("c.zarr", text()), "t.zarr", (*NEW, "--codes", "{t}", *HERE),
    ),
    "heatmaps: a folder in the place of codes": (
        "heatmaps", text("zarr.json"), "t.zarr", (*NEW, "--codes", "{t}", *HERE),
    ),
    "heatmaps: notes in the place of the log": (
        "heatmaps", logged, "log", (*NEW, "--events", "{t}", *HERE),
    ),
    "heatmaps: a page in the place of Dask's": (
        "heatmaps", logged, "p.html",
        (*NEW, "--performance-report", "{t}", "--scheduler", "threads", "--quiet"),
    ),
    "predict: a file of somebody else": ("predict", a_file(), "t.parquet", PREDICT),
    "predict: predictions of a run": (
        "predict", ours("run"), "r", ("{t}", "{base}/e.zarr", "{t}/predictions.parquet", *PAIRS, *HERE),
    ),
    "predict: a page beside the scores": (
        "predict", beside("t.html", a_file(b"<h1>my page</h1>")), "t.parquet",
        PREDICT,
    ),
    "predict: a foreign folder of the job": (
        "predict", beside(".t.parquet.wip", text()), "t.parquet",
        ("{base}/run", "{base}/e.zarr", "{t}", *PAIRS, "--codes", "{base}/c.zarr", *HERE),
    ),
    "export: a table of somebody else": ("export", a_file(b"name,grade\nme,1\n"), "t.csv", SCORES),
    "export: a matrix": ("export", ours_file("cells.h5ad"), "t.h5ad", SCORES),
    "export: what is copied": ("export", ours_file("cells.h5ad"), "t.h5ad", (*SCORES, "--expression", "{t}")),
    "export: a graph of somebody else": ("export", a_file(b"<graphml></graphml>"), "t.graphml", SCORES),
    "export: a parquet of somebody else": ("export", ours("run"), "r", ("{base}/s.parquet", "{t}/predictions.parquet")),
    "modules: a table of somebody else": ("modules", a_file(b"name\tgrade\nme\t1\n"), "t.tsv", SCORES),
    "modules: a folder of somebody else": ("modules", text(), "m", SCORES),
    "compare: a parquet of somebody else": (
        "compare", ours("run"), "r", ("{base}/s.parquet", "{base}/s2.parquet", "{t}/predictions.parquet"),
    ),
    "show: a photograph": ("show", a_file(b"\x89PNG my cat"), "t.png", DRAW),
    "show: a figure of the user's": ("show", a_picture, "t.pdf", DRAW),
    "report: a page beside the scores": (
        "report", scores_and_a_page, "t.parquet", ("{t}",),
    ),
    "demo: a demo with a folder of figures": ("demo", a_marked_demo, "d", ("{t}", "--quiet")),
}  # fmt: skip
OVERWRITING = ("ingest", "simulate", "plant", "train", "predict", "export", "modules", "compare")


@pytest.mark.parametrize("case", FOREIGN)
def test_what_is_not_ours_stays(base, tmp_path, capfd, case):
    command, put, name, arguments = FOREIGN[case]
    target = tmp_path / name
    put(target, base)
    before, sources = contents(tmp_path), contents(base)
    words = [str(word).format(base=base, t=target) for word in arguments]
    overwrite = ["--overwrite"] if command in OVERWRITING else []
    assert run_command(command, *words, *overwrite) == 2
    err = [line for line in capfd.readouterr().err.splitlines() if line.startswith("pairscape: ")]
    assert len(err) == 1, err
    assert contents(tmp_path) == before
    assert contents(base) == sources


# ── what is ours is replaced, once the new one is whole ──────────────────────────────────────────────────────────────


def unmarked(place, _):
    """A store of an earlier version."""
    metadata = json.loads((place / "zarr.json").read_text())
    del metadata["attributes"]["pairscape"]
    (place / "zarr.json").write_text(json.dumps(metadata))


def with_litter(place, _):
    (place / ".DS_Store").write_bytes(b"Finder's")


OURS = {
    "ingest": ("ingest", ours("e.zarr"), "t.zarr", ("{base}/cells.h5ad", "{t}", "--overwrite", "--quiet")),
    "ingest: of an earlier version": (
        "ingest", ours("e.zarr", unmarked), "t.zarr", ("{base}/cells.h5ad", "{t}", "--overwrite", "--quiet"),
    ),
    "ingest: with litter": (
        "ingest", ours("e.zarr", with_litter), "t.zarr", ("{base}/cells.h5ad", "{t}", "--overwrite", "--quiet"),
    ),
    "heatmaps: codes of another job": (
        "heatmaps", ours("c.zarr"), "t.zarr", ("{base}/e.zarr", "{dir}/i.zarr", *PAIRS, "--codes", "{t}", *HERE),
    ),
    "train": ("train", ours("run"), "r", ("{base}/i.zarr", "{t}", "--epochs", 1, "--overwrite", "--quiet")),
    "train: of an earlier version": (
        "train", ours("run", earlier), "r", ("{base}/i.zarr", "{t}", "--epochs", 1, "--overwrite", "--quiet"),
    ),
    "evaluate": ("evaluate", an_evaluation, "r", ("{base}/run", "{base}/i.zarr", "--out", "{t}", "--quiet")),
    "export": ("export", a_file(b"TF,target,importance\nA,B,1\n"), "t.csv", ("{base}/s.parquet", "{t}", "--overwrite")),
}  # fmt: skip


@pytest.mark.parametrize("case", OURS)
def test_what_is_ours_is_replaced(base, tmp_path, case):
    command, put, name, arguments = OURS[case]
    target = tmp_path / name
    put(target, base)
    before = target.stat().st_ino
    assert run_command(command, *(str(word).format(base=base, t=target, dir=tmp_path) for word in arguments)) == 0
    assert target.stat().st_ino != before
    assert not [path for path in tmp_path.rglob("*") if path.name.startswith(".") and path.name != ".DS_Store"]


@pytest.mark.parametrize("suffix", [".png", ".svg", ".pdf"])
def test_a_picture_of_ours_is_drawn_again(base, tmp_path, suffix):
    for gene in ("GENE001", "GENE002"):
        assert run_command("show", base / "i.zarr", "GENE000", gene, "-o", tmp_path / f"t{suffix}") == 0


def test_a_comparison_of_ours_is_written_again(base, tmp_path):
    for _ in range(2):
        paths = (base / "s.parquet", base / "s2.parquet", tmp_path / "t.parquet")
        assert run_command("compare", *paths, "--overwrite", "--quiet") == 0


@pytest.mark.parametrize("name", ["t.csv", "t.tsv", "rankedEdges.csv", "t.sif", "t.graphml", "t.parquet", "t.h5ad"])
def test_an_export_of_ours_is_written_again(base, tmp_path, name):
    for _ in range(2):
        assert run_command("export", base / "s.parquet", tmp_path / name, "--overwrite", "--quiet") == 0


def test_a_run_stays_until_the_new_one_is_whole(base, tmp_path, monkeypatch):
    """An error in the middle, and Ctrl-C, leave the old run as it was; what the command goes on with lies beside it."""
    run = Path(shutil.copytree(base / "run", tmp_path / "run"))
    before = contents(run)
    for error in (OSError("No space left on device"), KeyboardInterrupt()):

        def broken(*_, error=error):
            raise error

        with monkeypatch.context() as patch:
            patch.setattr("pairscape.model.training.run.write_card", broken)
            with pytest.raises(type(error)):
                pairscape.train(base / "i.zarr", run, training=Training(epochs=1), overwrite=True, quiet=True)
        assert contents(run) == before
        assert {path.name for path in tmp_path.iterdir()} == {"run", ".run.wip"}
