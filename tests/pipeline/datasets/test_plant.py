"""The planting job: a store, a list beside it that `--pairs` reads, and nothing where it is refused."""

import anndata
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
from anndata import AnnData
from scipy.sparse import csr_matrix
from scipy.stats import rankdata, spearmanr

import pairscape
from conftest import counted, simulated
from pairscape.pipeline.datasets.designs import Planting
from pairscape.pipeline.datasets.plant import plant_truth
from pairscape.pipeline.genes.pairs import candidates
from pairscape.pipeline.heatmaps.images import open_images
from pairscape.pipeline.matrix.expression import open_expression
from pairscape.pipeline.options import PairSource
from typed import run_command

PLANTING = Planting("u-shaped,linear", 40)


def test_the_store_and_the_list_fit(expression_path, dense, tmp_path):
    [done] = plant_truth(expression_path, tmp_path / "p.zarr", PLANTING)
    store, matrix = anndata.read_zarr(tmp_path / "p.zarr"), open_expression(tmp_path / "p.zarr")
    assert (done.cells, done.genes, done.positives, done.negatives) == (150, len(matrix.genes), 40, 400)
    assert done.copies == done.genes - 46 > 0
    np.testing.assert_array_equal(np.sort(store.X.toarray()[:, :46], axis=0), np.sort(dense, axis=0))
    assert store.obs["planted_type"].value_counts().tolist() == [75, 75]
    assert store.uns["pairscape"]["planted"]["kinds"] == "u-shaped,linear"
    assert "counts" not in store.layers
    found = candidates(PairSource(pairs=done.pairs), matrix.genes)
    table = pd.read_csv(tmp_path / "p.tsv", sep="\t")
    assert found.pairs.label.tolist() == table["label"].tolist()
    assert (np.array(matrix.genes)[found.pairs.gene_a] == table["gene_a"]).all()
    assert found.notes == (
        "p.tsv: columns 'gene_a', 'gene_b', 'label'; 440 of 440 pairs have both genes in the matrix; "
        "80 of 80 genes are in the matrix",
    )
    assert done.line().startswith(
        f"150 cells × {done.genes} genes ({done.copies} of them copies), values kept as they are; "
    )


def test_raw_counts_are_normalised_before_anything_is_planted(tmp_path):
    counts = AnnData(csr_matrix(counted(300, 60)))
    [done] = plant_truth(counts, tmp_path / "p.zarr", PLANTING)
    store, normal = anndata.read_zarr(tmp_path / "p.zarr"), counts.copy()
    sc.pp.normalize_total(normal, target_sum=1e4)
    sc.pp.log1p(normal)
    np.testing.assert_allclose(
        np.sort(store.X.toarray()[:, :60], axis=0), np.sort(normal.X.toarray(), axis=0), rtol=1e-5
    )
    assert "values scaled to 10,000 per cell, log1p" in done.line()
    assert open_expression(tmp_path / "p.zarr").values == "log"


def test_a_seed_gives_the_same_content(expression_path, tmp_path):
    for name in ("a", "b"):
        list(plant_truth(expression_path, tmp_path / f"{name}.zarr", PLANTING))
    first, again = (open_expression(tmp_path / f"{name}.zarr").content_hash() for name in ("a", "b"))
    assert first == again
    assert (tmp_path / "a.tsv").read_bytes() == (tmp_path / "b.tsv").read_bytes()


def test_the_command_from_end_to_end(expression_path, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    options = ["--kinds", "u-shaped", "--planted-pairs", "20", "--directed"]
    assert run_command("plant", expression_path, "p.zarr", *options) == 0
    assert "p.tsv lists 40 planted and 200 other pairs" in capfd.readouterr().out
    counting = ["--scale", "rank", "--scheduler", "synchronous"]
    assert run_command("heatmaps", "p.zarr", "i.zarr", "--pairs", "p.tsv", *counting) == 0
    assert run_command("plant", expression_path, "p.zarr", *options) == 2
    assert "p.zarr exists" in capfd.readouterr().err
    assert run_command("plant", expression_path, "p.zarr", *options, "--overwrite", "--quiet") == 0


@pytest.mark.parametrize(("n_cells", "name", "words"), [
    (49, "p.zarr", ["has 49 cells", "50 at least"]),
    (150, "p.h5ad", ["does not end in .zarr"]),
    (150, "there.zarr", ["there.tsv exists", "--overwrite"]),
])  # fmt: skip
def test_what_cannot_be_planted_leaves_nothing(n_cells, name, words, tmp_path, refuses):
    (tmp_path / "there.tsv").write_text("mine")
    with refuses(*words):
        list(plant_truth(AnnData(csr_matrix(simulated(n_cells))), tmp_path / name, PLANTING))
    assert [path.name for path in tmp_path.iterdir()] == ["there.tsv"]


def test_a_source_that_is_not_there_is_refused(tmp_path, refuses):
    with refuses("does not exist"):
        list(plant_truth(tmp_path / "none.zarr", tmp_path / "p.zarr", PLANTING))


def annotated(n_cells=600, n_genes=30):
    """Log expression with columns of obs: types of unlike depth, one value, and a value a cell."""
    dense, obs = simulated(n_cells, n_genes), {"type": np.repeat(["x", "y", None], n_cells // 3), "one": "z"}
    dense[:, [5, -1]] = dense[:, [6, -2]]  # which are constant where they are expressed
    names = [f"c{i}" for i in range(n_cells)]
    obs = pd.DataFrame(obs | {"each": names, "depth": 1}, index=names)
    return AnnData(csr_matrix(dense), obs=obs, var=pd.DataFrame(index=[f"G{i}" for i in range(n_genes)]))


def planted_stores(tmp_path, source, **options):
    """What is said of each store, the store, and its list."""
    planting = Planting(**{"kinds": "rising,opposite", "planted_pairs": 40, "negatives_per_positive": 2, **options})
    done = list(plant_truth(source, tmp_path / "p.zarr", planting))
    return [
        (one, anndata.read_zarr(one.store), pd.read_csv(one.pairs, sep="\t", keep_default_na=False)) for one in done
    ]


def test_one_command_records_and_lists_no_more_than_it_was_asked_for(expression_path, tmp_path):
    [(_, store, table)] = planted_stores(tmp_path, expression_path)
    assert list(table.columns) == ["gene_a", "gene_b", "label", "kind"]
    assert set(store.uns["pairscape"]["planted"]) == {
        "kinds", "planted_pairs", "strength", "negatives_per_positive", "directed", "background", "seed"
    }  # fmt: skip
    assert list(store.obs.columns) == ["planted_type"]


def test_several_stores_are_numbered_and_each_draws_its_own(tmp_path):
    made = planted_stores(tmp_path, annotated(), stores=4, cells="60:5000", strength="0.1:0.6", min_expressing=20)
    assert [one.store.name for one, _, _ in made] == ["p-1.zarr", "p-2.zarr", "p-3.zarr", "p-4.zarr"]
    assert [one.pairs.name for one, _, _ in made] == ["p-1.tsv", "p-2.tsv", "p-3.tsv", "p-4.tsv"]
    sizes = [store.n_obs for _, store, _ in made]
    assert len(set(sizes)) == 4
    assert all(60 <= size <= 600 for size in sizes)
    assert len({tuple(store.obs_names[:5]) for _, store, _ in made}) == 4
    for one, store, table in made:
        assert one.line().startswith(f"{store.n_obs} of 600 cells × ")
        planted = table[table["label"] == 1]
        assert planted["strength"].between(0.1, 0.6).all()
        assert planted["strength"].nunique() == 40
        assert (table.loc[table["label"] == 0, "strength"] == 0).all()
        source = annotated()[store.obs_names].X.toarray()
        np.testing.assert_array_equal(np.sort(store.X.toarray()[:, :30], axis=0), np.sort(source, axis=0))
    assert made[0][1].uns["pairscape"]["planted"]["stores"] == 4


def test_a_number_of_cells_is_exact_and_at_most_those_that_are_there(tmp_path):
    [(_, store, _)] = planted_stores(tmp_path, annotated(), cells=350)
    assert store.n_obs == 350
    (tmp_path / "more").mkdir()
    [(_, store, _)] = planted_stores(tmp_path / "more", annotated(), cells=10_000)
    assert store.n_obs == 600


def test_one_of_several_names_that_is_taken_keeps_all_from_being_written(tmp_path, refuses):
    (tmp_path / "p-3.tsv").write_text("mine")
    with refuses("p-3.tsv exists"):
        planted_stores(tmp_path, annotated(), stores=3)
    assert [path.name for path in tmp_path.iterdir()] == ["p-3.tsv"]


@pytest.mark.parametrize(("name", "words"), [
    ("colour", ["'colour' is no column", "type"]), ("one", ["'one' makes 1 groups"]), ("each", ["makes 600 groups"]),
])  # fmt: skip
def test_groups_that_shift_nothing_are_refused(name, words, tmp_path, refuses):
    with refuses(*words):
        planted_stores(tmp_path, annotated(), confounded=0.5, groups=name)
    assert not list(tmp_path.iterdir())


def test_cells_of_one_group_alone_are_refused(tmp_path, refuses):
    matrix = annotated()
    matrix.obs["rare"] = ["x"] * 599 + ["y"]
    with refuses("'rare'", "60 cells", "one group", "--cells"):
        planted_stores(tmp_path, matrix, confounded=0.5, groups="rare", cells=60, min_expressing=20)
    assert not list(tmp_path.iterdir())


def within(a, b, group):
    """Mean correlation of two genes within the groups, each weighted by its cells."""
    centred = [pd.Series(rankdata(x)).groupby(group).transform(lambda part: part - part.mean()) for x in (a, b)]
    return np.corrcoef(*centred)[0, 1]


@pytest.mark.parametrize("groups", ["type", "depth"])
def test_confounded_pairs_correlate_and_are_independent_within_groups(groups, tmp_path):
    options = {"confounded": 0.5, "groups": groups, "strength": 0.9, "min_expressing": 300}
    [(one, store, table)] = planted_stores(tmp_path, annotated(), **options)
    assert (one.confounded, one.negatives) == (80, 160)
    assert table["confounded"].value_counts().to_dict() == {"": 120, "hidden": 40, "given": 40}
    found = table[table["confounded"] != ""]
    assert set(found["label"]) == {0}
    assert set(found["kind"]) == {"none"}
    assert not set(found["gene_a"]) & set(table.loc[table["label"] == 1, "gene_a"])
    x, group = store.to_df(), store.obs["planted_group"].astype(str).to_numpy()
    assert set(group) == ({"0", "1", "2"} if groups == "type" else set(map(str, range(10))))
    source = annotated().to_df()
    correlations = {"hidden": [], "given": []}
    for a, b, by in found[["gene_a", "gene_b", "confounded"]].itertuples(index=False):
        np.testing.assert_array_equal(np.sort(x[a]), np.sort(source[a.split("~")[0]]))
        inside = within(x[a], x[b], group) if by == "given" else 0
        correlations[by].append((spearmanr(x[a], x[b]).statistic, inside))
    for by, rho in correlations.items():
        outside, inside = np.array(rho).T
        assert np.median(np.abs(outside)) > 0.4, by
        assert np.abs(inside).mean() < 0.15, by
    if groups == "depth":
        assert (np.array(correlations["given"])[:, 0] > 0.2).all()


def test_hidden_groups_are_told_nowhere(tmp_path):
    [(one, store, table)] = planted_stores(tmp_path, annotated(), confounded=0.2)
    assert list(store.obs.columns) == ["planted_type"]
    assert set(table["confounded"]) == {"", "hidden"}
    assert (table["confounded"] == "hidden").sum() == one.confounded == 20


def test_what_is_asked_beside_changes_no_planted_pair(tmp_path):
    tables = []
    for name, options in (("a", {}), ("b", {"confounded": 0.3, "groups": "type"})):
        (tmp_path / name).mkdir()
        [(_, store, table)] = planted_stores(tmp_path / name, annotated(), **options)
        tables.append((table[["gene_a", "gene_b", "kind"]].iloc[:120], store.X[:, :60].toarray()))
    pd.testing.assert_frame_equal(tables[0][0], tables[1][0])
    np.testing.assert_array_equal(tables[0][1], tables[1][1])


def test_the_options_on_the_command_line_and_the_list_with_its_kinds(expression_path, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    options = [
        "--kinds",
        "rising,falling,threshold,exclusive,u-shaped,opposite",
        "--planted-pairs",
        30,
        "--turned",
        0.3,
    ]
    options += ["--strength", "0.06:0.8", "--cells", "100:140", "--stores", 2, "--confounded", 0.2, "--groups", "depth"]
    assert run_command("plant", expression_path, "p.zarr", "--min-expressing", 20, *options) == 0
    assert capfd.readouterr().out.count("wrote p-") == 2
    listed = ["--pairs", "p-2.tsv", "--classes", "kinds", "--scheduler", "synchronous", "--quiet"]
    assert run_command("heatmaps", "p-2.zarr", "i.zarr", *listed) == 0
    label = open_images("i.zarr").array("label")
    assert np.bincount(label).tolist() == [300 + 75, 5, 5, 5, 5, 5, 5]


def test_in_python_several_stores_are_a_list_of_paths(expression_path, tmp_path):
    options = {"kinds": "linear", "planted_pairs": 20, "quiet": True}
    assert pairscape.plant(expression_path, tmp_path / "p.zarr", **options) == tmp_path / "p.zarr"
    paths = pairscape.plant(expression_path, tmp_path / "p.zarr", stores=2, **options)
    assert paths == [tmp_path / "p-1.zarr", tmp_path / "p-2.zarr"]
