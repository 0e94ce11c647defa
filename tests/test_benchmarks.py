"""Every benchmark runs once, small, so that the command behind a published figure never rots."""

import argparse
import json

import anndata
import numpy as np
import pandas as pd
import pytest
import torch

from benchmarks import (
    bootstrap,
    browse,
    channels,
    chaos,
    codecs,
    corruption,
    discovery,
    encode,
    exact,
    export,
    gpu,
    growth,
    heatmaps,
    ingest,
    interrupted,
    kernel,
    networks,
    objects,
    picture,
    plan,
    pooling,
    predict,
    prediction,
    scheduler,
    scoring,
    stability,
    start,
    stream,
)
from benchmarks.pooling import GoldPair
from model_fixtures import small_store
from pairscape.model.options import Training
from pairscape.pipeline.datasets.designs import Atlas
from pairscape.pipeline.options import Compute

THREAD = Compute("threads", 1, "3GB")  # in this process, which has all loaded already


def test_kernel_figures(monkeypatch):
    monkeypatch.setattr(kernel, "ROUNDS", 1)
    figures = kernel.measure(cells=300)
    assert figures["cells"] == 300
    assert min(value for name, value in figures.items() if name.endswith("us_per_pair")) >= 0


def test_the_simulated_matrix_has_the_density_it_promises():
    expression = kernel.simulate(2000, 320, 1.0)
    assert 0.1 < expression.nnz / np.prod(expression.shape) < 0.17


def test_objects_figures(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    small = {"cells": 200, "genes": 40, "density": 0.2, "compute": Compute("synchronous")}
    figures = objects.measure("memory://objects-benchmark", tmp_path, **small)
    assert (figures["differing"], figures["pairs"]) == (0, 780)
    assert figures["disk"]["bytes"] == figures["objects"]["bytes"] > 0


@pytest.mark.cluster
def test_encode_figures(tmp_path, monkeypatch):
    monkeypatch.setattr(encode, "WORKERS", 1)
    figures = encode.measure(tmp_path, cells=300, genes=50, density=0.1)
    assert figures["scanpy_over_pairscape"] > 0
    assert min(figures[f"{name}_bytes"] for name in ("scanpy_peak", "pairscape_peak_worker", "codes")) > 0
    assert {path.name for path in tmp_path.iterdir()} == {"300x50x0.1.zarr", "300x50x0.1.h5ad"}


def test_the_input_of_encode_has_the_density_it_promises(monkeypatch):
    monkeypatch.setattr(encode, "MADE_CELLS", 100)
    entries = [genes.size for _, genes, _ in encode.blocks_of_counts(250, 400, 0.05)]
    assert len(entries) == 3
    assert 0.04 < sum(entries) / (250 * 400) < 0.06


@pytest.mark.cluster
def test_ingest_figures(tmp_path, monkeypatch):
    monkeypatch.setattr(ingest, "WORKERS", 1)
    found = ingest.measure(tmp_path, Atlas(300, 80, 0.1))
    assert found["pairscape_over_anndata"] > 0
    assert min(value for name, value in found.items() if name.endswith("_bytes")) > 0
    assert set(found["pairscape_stages"]) == {"looking at matrix", "reading cells", "writing entries"}
    assert {path.name for path in tmp_path.iterdir()} == {"300x80x0.1.h5ad"}


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


def test_channels_have_the_first_gene_along_the_columns(tmp_path):
    """In whichever order the matrix has the genes: its share of cells without it is that of the first column."""
    rng = np.random.default_rng(0)
    share = {"LOW": 0.1, "MID": 0.5, "TOP": 0.9}
    values = np.stack([rng.gamma(2, size=300) * (rng.random(300) < some) for some in share.values()], axis=1)
    made = anndata.AnnData(np.ceil(values).astype(np.float32), var=pd.DataFrame(index=[*share]))
    made.write_h5ad(tmp_path / "cells.h5ad")
    kept = values[values.any(axis=1)]  # a cell that expresses nothing is left out
    listed = [("MID", "LOW"), ("LOW", "TOP"), ("TOP", "MID")]
    parts = list(channels.count(tmp_path / "cells.h5ad", listed, tmp_path / "none.csv", tmp_path))
    found = {listed[row]: image for rows, counts in parts for row, image in zip(rows, counts.numpy(), strict=True)}
    assert set(found) == set(listed)
    for (first, second), image in found.items():
        without = {name: (kept[:, at] == 0).sum() for at, name in enumerate(share)}
        assert (image[:, 0].sum(), image[0].sum()) == (without[first], without[second])


@pytest.mark.parametrize("network", ["pairnet", "linear"])
def test_a_network_of_channels_finds_what_complexes_share(network):
    """Each pair of a judged complex is scored by a network that saw neither gene, and no other."""
    rng = np.random.default_rng(0)
    pairs = [
        GoldPair(f"{c}-{i}", f"{c}-{j}", str(c), (i + j) % 2 == 0)
        for c in range(30)
        for i in range(8)
        for j in range(i)
    ]
    positive = np.array([pair.positive for pair in pairs])
    x = rng.normal(size=(len(pairs), 3, 8, 8)) + positive[:, None, None, None]
    gold, scored = channels.numbered(pairs, judged=5, judge=True)
    asked = argparse.Namespace(network=network, hidden=4, epochs=4, rate=1e-2, decay=1e-2, seed=0)
    found = channels.scores(torch.from_numpy(x).half(), np.arange(len(pairs)), gold, asked)
    assert scored == [str(c) for c in range(5)]
    assert np.array_equal(~np.isnan(found), gold.unit >= 0)
    own = gold.unit >= 0
    assert np.mean(found[own & positive][:, None] > found[own & ~positive]) > 0.9


def test_codecs():
    rows = codecs.compare(codecs.images(200, 40.0, genes_a=1))
    assert len(rows) == 10
    assert all(0 < size < 4096 and encode > 0 and decode > 0 for _, encode, decode, size in rows)
    assert codecs.allocator_us("kept") > 0


@pytest.mark.cluster
def test_a_whole_job_beside_its_pure_work(tmp_path):
    found = heatmaps.measure(tmp_path, 500, 120, 0.2, 2400, THREAD, rounds=1)
    assert found["differing_of_200"] == 0
    assert found["pairs"] == 20 * 119
    assert found["counting_core_s"] >= 0 < found["job_over_needed"]
    assert sum(found["bytes_per_pair"].values()) > found["bytes_per_pair"]["counts"] > 0
    assert all(0.05 < peak < 2 for peak in found["peak_gb"])


def test_prediction(tmp_path):
    found = prediction.measure(tmp_path, 300, 150, 0.2, 60, 1.0, THREAD)
    assert (found["pairs"], found["shards"]) == (60 * 149, 2)
    assert found["encoded"]["gb_over_measured"] == pytest.approx(1, rel=0.25)
    assert found["sampled"]["s"] > 0 < found["measured_s"]


@pytest.mark.cluster
def test_predict_figures(tmp_path):
    compute = Compute("threads", 2, "3GB")
    found = predict.measure(tmp_path, 300, 120, 0.2, 2400, compute=compute, screen=0.5, plain_pairs=32)
    assert found["pairs"] == 20 * 119
    assert found["scored"] == pytest.approx(1190, rel=0.1)
    assert 0 < found["counting_share"] < sum(found["share"].values()) == pytest.approx(1, abs=1e-3)
    assert found["time_left"]["told_after_share"] >= 0.05
    assert min(found["pairs_per_s"], found["plain_images_per_s"], *found["peak_gb_of_workers"]) > 0


def test_growth_and_its_plot(tmp_path, monkeypatch):
    monkeypatch.setattr(growth, "CELLS", (500, 1000, 2000, 4000))
    monkeypatch.setattr(growth, "SCALES", (0.5, 1.0, 2.0, 3.0))
    monkeypatch.setattr(growth, "SCALED_CELLS", 2000)
    found = growth.kernel_growth()
    assert found["cells"][1][1] > found["cells"][0][1]
    jobs = {"pairs": [[1, 2.0], [2, 3.0]], "workers": [[1, 2.0], [2, 1.5]]}
    speedups = {"speedup_2_workers": 1.3, "speedup_of_the_c_floor_on_2_cores": 1.4}
    growth.plot({**found, **jobs, **speedups}, tmp_path / "g.png")
    assert (tmp_path / "g.png").stat().st_size > 10_000


@pytest.mark.cluster
def test_the_scheduler_ends_every_fake_task():
    found = scheduler.measure(3, 1.0)
    assert found["tasks"] >= 3
    assert found["ideal_s"] == pytest.approx(1.0, rel=0.4)
    assert found["overhead"] > 0


@pytest.mark.cluster
def test_stream_figures(tmp_path):
    small_store(tmp_path)
    found = stream.measure(tmp_path / "small" / "images.zarr", "pairnet", rounds=1, million=0.2)
    assert found["store"] == {"images": 66, "cells": 60, "shards": 1}
    assert min(found["reading"][name]["images_per_s"] for name in ("stream", "zarr_whole_shards", "single_images")) > 0
    assert {trained["device"] for trained in found["training"].values()} <= {"cpu", "cuda"}
    assert min(trained["stream_over_memory"] for trained in found["training"].values()) > 0
    for balance, mixed in found["mixing"].items():
        assert mixed["positives_off_by_at_most"] < 1
        assert mixed["position_entropy_over_random"] > 0.9
        assert found["memory"][balance]["given_gb"] < found["memory"][balance]["peak_gb"] < 1.5


def test_the_bootstrap_of_a_small_test_fold():
    found = bootstrap.measure(rows=2_000, genes=60, resamples=20)
    assert (found["rows"], found["resamples"]) == (2_000, 20)
    assert found["cpu_s"] > 0 < found["peak_gb"]
    assert "AUROC" in found["verdict"]


def test_the_cost_of_resamples_and_of_decoys(tmp_path):
    found = stability.measure(tmp_path, 200, 60, 0.3, 240, 10, 3, 50)
    assert found["pairs"] == 4 * 59
    assert (found["bootstrap"]["pairs"], found["bootstrap"]["images"], found["fdr"]["decoys"]) == (20, 60, 50)
    for part in ("predicted", "bootstrap", "fdr"):
        assert found[part]["s"] >= found[part]["network_s"] > 0


def test_the_realised_false_discovery_rate_of_planted_truth(tmp_path):
    small_store(tmp_path)
    found = discovery.measure(tmp_path / "small" / "expression.zarr", tmp_path, None, [0.9], 1, 12, 3)
    (run,) = found["strengths"]["0.9"]["seeds"]
    assert (found["scored_by"], run["candidates"], run["planted"], run["decoys"]) == ("dependence", 48, 12, 48)
    for told in run["levels"].values():
        assert 0 <= told["fdr"] <= 1 >= told["power"] >= 0
    assert run["levels"]["0.2"]["power"] >= run["levels"]["0.01"]["power"]
    assert found["null_checks"] == 1


@pytest.mark.parametrize("name", networks.NETWORKS)
def test_networks(name):
    assert (networks.random_counts(3, 16).sum((1, 2)) == networks.CELLS).all()
    found = networks.measure(name, networks.Size(16, 4, 3), 0.0, Training())
    assert found["parameters"] > 10_000
    assert min(found["train_images_per_s"], found["predict_images_per_s"]) > 0


@pytest.mark.cluster
def test_chaos(tmp_path):
    found = chaos.measure(tmp_path, runs=1, genes=90)
    assert (found["runs"], found["identical"]) == (1, 1)
    assert found["worker"] + found["scheduler"] + found["driver"] >= 3
    assert [found[name] for name in ("lost", "silent", "hung", "crashed", "leftovers")] == [0] * 5


def test_corruption(tmp_path):
    found = corruption.measure(tmp_path, times=16, genes=50)
    assert (found["done"], found["found"], found["repaired"], found["read_wrong"]) == (16, 16, 16, 0)
    assert min(kind["done"] for kind in found["by_kind"].values()) >= 2


def test_scoring_figures():
    found = scoring.measure(["pairnet"], bins=16, images=8, rounds=1, processes=2)
    assert found["pairnet"]["scorer_over_plain"] > 0
    gains = found["pairnet"]["images_per_s_of_one_core"]
    assert gains.pop("largest_difference") < 1e-5
    assert min(gains.values()) > 0


def test_export(tmp_path):
    found = export.measure(tmp_path, pairs=3000, genes=60, best=50, formats=("all.tsv", "best.h5ad"))
    assert 2700 < found["all.tsv"]["edges"] < 3000
    assert found["best.h5ad"]["edges"] == 50
    assert found["best.h5ad"]["peak_mb"] >= found["best.h5ad"]["idle_mb"] > 0


def test_browse(tmp_path):
    found = browse.measure(tmp_path, genes=40, cells=60, clicks=2)
    assert found["pairs"] == 780
    assert found["clicks"].keys() == {"page", *browse.CLICKS, "all"}
    assert found["peak_mb"] >= found["mb"] > 0


def test_gpu_figures_on_whatever_there_is(capsys):
    gpu.main(["--images", "800", "--networks", "pairnet", "--rounds", "1"])
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert found["images"] == 800
    for part, name in (("training", "stream"), ("scoring", "store")):
        own = found["networks"]["pairnet"][part]
        assert min(own[f"{name}_images_per_s"], own["memory_images_per_s"], own[f"{name}_over_memory"]) > 0
        assert (own["gpu_busy"] is None) == (found["device"] in ("cpu", "mps"))


def test_pooling_speed(tmp_path):
    figures = pooling.measure_speed(tmp_path, sets=3, n_pairs=400, n_genes=40)
    assert figures["pairs"] > 400
    assert figures["seconds"] > 0


def test_pooling_figures(tmp_path, monkeypatch):
    """Negatives keep one gene, make no complex, and come from alike genes; figures are within a complex."""
    monkeypatch.setattr(pooling, "LEAST_PAIRS", 6)
    genes = tuple(f"G{i}" for i in range(60))
    pairs = [(f"G{4 * c + i}", f"G{4 * c + j}", str(c)) for c in range(6) for i in range(4) for j in range(i)]
    gold = tmp_path / "gold.csv"
    gold.write_text("gene_a,gene_b,complex\n" + "".join(f"{a},{b},{c}\n" for a, b, c in [*pairs, ("G50", "G51", "x")]))
    judged, others = pooling.read_complexes(gold, set(genes))
    assert (len(judged), others) == (6, {"x": [("G50", "G51")]})
    share = np.random.default_rng(0).uniform(0.1, 0.9, (60, 3))
    share[:30, 2] = np.nan
    used = {frozenset(pair[:2]) for pair in pairs}
    measured = pooling.Measured(genes, share)
    chosen = pooling.choose_pairs(judged, measured.alike(), 2, set(used), np.random.default_rng(0))
    assert sum(pair.positive for pair in chosen) == 36
    assert all((frozenset((pair.gene_a, pair.gene_b)) in used) == pair.positive for pair in chosen)
    truth = np.array([pair.positive for pair in chosen], float)
    found = {name: pooling.by_complex(chosen, scores) for name, scores in (("mean-z", truth * 0), ("right", truth))}
    table = pooling.figures(found, 0)
    assert [row["auroc"] for row in table] == [0.5, 1.0]
    assert [row["low"] for row in table] == [0, 0.5]


def test_seconds_of_a_small_command(tmp_path):
    taken = start.take(start.Case("--version"), tmp_path)
    assert 0 < taken.first_word_cpu_s <= taken.cpu_s
    assert 0 < taken.first_word_s <= taken.wall_s
    with pytest.raises(RuntimeError, match="ended with 2"):
        start.take(start.Case("heatmaps none.zarr made.zarr --all-pairs"), tmp_path)


@pytest.mark.cluster
def test_a_plan_beside_what_is_done(tmp_path):
    figures = plan.compare(200, 30, 1, tmp_path, "threads")
    assert figures["pairs"] == 435
    assert min(figures.values()) > 0


@pytest.mark.cluster
def test_interrupted_figures(tmp_path):
    """A training that is killed for real ends with the bytes of one in one piece."""
    figures = interrupted.measure(tmp_path, kills=1, network="pairnet", genes=100, epochs=5, seed=1)
    assert (figures["kills"], figures["lost"], figures["differing"]) == (1, 0, [])
