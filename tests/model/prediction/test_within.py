"""`predict --within`: what groups of cells make of a pair is taken out, and is told where it is not asked for."""

import os
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from scipy.stats import rankdata

import pairscape
from model_fixtures import gene_names
from pairscape.model.edges.scores import read_facts, read_scores
from pairscape.model.prediction import predict
from pairscape.model.prediction.decoys import save_strata
from pairscape.model.prediction.within import check_columns, lay_groups, lay_strata
from pairscape.pipeline.codes.bins import zero_bin
from pairscape.pipeline.codes.store import open_codes
from pairscape.pipeline.compute.session import Session
from pairscape.pipeline.errors import InputError
from pairscape.pipeline.matrix.expression import open_expression
from pairscape.pipeline.options import Compute

HERE = Compute("synchronous")
OF_TYPE, CANCELLED, FREE = 20, 20, 20  # genes: that the type moves; of pairs whose dependence it hides; of neither
CELLS = 600


def cells_of_two_types():
    """Log expression of pairs (0, 1), (2, 3), …: sharing the type, then rising within and falling between types."""
    rng = np.random.default_rng(0)
    high = np.repeat([-1.0, 1.0], CELLS // 2)[:, None]
    moved = rng.normal(size=(CELLS, OF_TYPE)) + high * np.resize([1.5, -1.5], OF_TYPE)  # as many rise as fall
    one = rng.normal(size=(CELLS, CANCELLED // 2))
    other = 0.5 * one + np.sqrt(0.75) * rng.normal(size=one.shape)
    hidden = np.stack([one + 0.66 * high, other - 0.66 * high], axis=2).reshape(CELLS, -1)
    free = rng.normal(size=(CELLS, FREE))
    obs = pd.DataFrame(
        {
            "type": pd.Categorical(np.where(high[:, 0] > 0, "B cell", "T cell")),
            "chip": rng.integers(0, 3, CELLS),
            "one": "all",
            "fine": [f"clone {i // 2}" for i in range(CELLS)],
            "holes": np.where(np.arange(CELLS) < 5, None, "there"),
            "size": rng.random(CELLS),
        },
        index=[f"cell_{i}" for i in range(CELLS)],
    )
    made = np.maximum(np.hstack([moved, hidden, free]) + 2, 0).astype(np.float32)
    return ad.AnnData(sparse.csr_matrix(made), obs=obs, var=pd.DataFrame(index=gene_names(made.shape[1])))


def scored(folder, name, within, **options):
    pairscape.predict(
        "universal", folder / "cells.zarr", folder / f"{name}.parquet", codes=folder / "codes.zarr", within=within,
        all_pairs=True, quiet=True, **{"compute": HERE, **options},
    )  # fmt: skip
    return read_scores(folder / f"{name}.parquet").to_pandas()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("within")
    pairscape.ingest(cells_of_two_types(), folder / "cells.zarr", preset="none", quiet=True)
    scored(folder, "none", "none")
    scored(folder, "type", "type")
    return folder


def kinds_of_pairs(frame):
    """Which rows are pairs (0, 1), (2, 3), … of each sort."""
    a, b = (frame[name].str.removeprefix("GENE").astype(int) for name in ("gene_a", "gene_b"))
    partners = (a % 2 == 0) & (b == a + 1)
    return {
        "of type": (a < OF_TYPE) & (b < OF_TYPE),
        "hidden": partners & (a >= OF_TYPE) & (a < OF_TYPE + CANCELLED),
        "free": (a >= OF_TYPE + CANCELLED) & (b >= OF_TYPE + CANCELLED),
    }


def ranked_above(better, worse):
    return (better.to_numpy()[:, None] > worse.to_numpy()).mean()


def test_what_the_type_makes_goes_and_what_it_hides_comes(folder):
    none, within = (read_scores(folder / f"{name}.parquet").to_pandas() for name in ("none", "type"))
    sort = kinds_of_pairs(none)
    of_type, hidden, free = (sort[name] for name in ("of type", "hidden", "free"))
    assert (none["q_value"][of_type] <= 0.05).mean() > 0.9
    assert (within["q_value"][of_type] <= 0.05).mean() <= 0.05
    assert (none["score"][of_type] > 0.5).mean() > 0.9
    assert (within["score"][of_type] > 0.5).mean() < 0.12
    assert abs(none["correlation"][hidden].mean()) < 0.05
    assert ranked_above(none["correlation"][hidden].abs(), none["correlation"][free].abs()) < 0.7
    assert ranked_above(within["correlation"][hidden].abs(), within["correlation"][free].abs()) >= 0.98
    assert ranked_above(within["score"][hidden], within["score"][free]) >= 0.98
    assert (within["q_value"][hidden] < 0.1).mean() > 0.8  # of ten pairs, beside one decoy


def test_two_columns_that_explain_the_best_pairs_together_are_told(tmp_path):
    """Of 15 best pairs the type explains three and the condition three: either is too few to be told alone."""
    rng = np.random.default_rng(5)
    columns = {name: rng.integers(0, 2, CELLS) for name in ("type", "condition")}
    shifts = np.stack([*[columns["type"]] * 3, *[columns["condition"]] * 3, *[np.zeros(CELLS)] * 9], axis=1) * 5.0
    shared = np.where(np.arange(15) < 6, 0, 1) * rng.normal(size=(CELLS, 15)) * 2
    values = np.repeat(shifts + shared, 2, axis=1) + 0.6 * rng.normal(size=(CELLS, 30)) + 4
    cells = ad.AnnData(
        sparse.csr_matrix(np.maximum(values, 0).astype(np.float32)),
        obs=pd.DataFrame({name: values.astype(str) for name, values in columns.items()}, index=map(str, range(CELLS))),
        var=pd.DataFrame(index=gene_names(30)),
    )
    pairscape.ingest(cells, tmp_path / "cells.zarr", preset="none", quiet=True)
    pairs = pd.DataFrame({"gene_a": gene_names(30)[::2], "gene_b": gene_names(30)[1::2]})
    pairscape.predict(
        "universal", tmp_path / "cells.zarr", tmp_path / "s.parquet", pairs=pairs, within="none", q_values=False,
        compute=HERE, quiet=True,
    )  # fmt: skip
    (known,) = read_facts(tmp_path / "s.parquet")["explained"]
    assert (set(known["column"].split(",")), known["pairs"]) == ({"type", "condition"}, 15)
    assert 5 <= known["explained"] <= 7


@pytest.mark.parametrize("columns", [("type",), ("type", "depth"), ("depth", "type", "chip")])
def test_decoys_are_dealt_inside_every_stratum(folder, tmp_path, columns):
    """And among cells of like depth there, which is in all of them."""
    codes, obs = open_codes(folder / "codes.zarr"), open_expression(folder / "cells.zarr").obs()
    named = [column for column in columns if column != "depth"]
    within = lay_strata(codes, check_columns(obs, columns), columns, np.arange(4), tmp_path, 0, Session())
    dealt = np.load(save_strata(codes, tmp_path, 0, Session(), within))
    assert (obs[named].astype(str).groupby(dealt).nunique() == 1).all(axis=None)
    assert np.unique(dealt).size > obs.groupby(named, observed=True).ngroups


def test_the_file_and_its_report_say_so(folder):
    facts = read_facts(folder / "type.parquet")
    assert (facts["within"], facts["strata"]) == (["type"], 2)
    assert "cells of like depth and type" in facts["fdr"]["sentence"]
    page = (folder / "type.html").read_text(encoding="utf-8")
    assert "beyond type: cells are compared within 2 strata" in page


def test_the_column_that_explains_the_best_pairs_is_told(folder):
    known = read_facts(folder / "none.parquet")["explained"]
    assert [column["column"] for column in known] == ["type"]
    assert known[0]["explained"] >= known[0]["pairs"] / 2
    assert "add --within type" in known[0]["sentence"]
    page = (folder / "none.html").read_text(encoding="utf-8")
    assert page.index("add --within type") < page.index("A score is the probability")
    assert f">{known[0]['sentence'].replace('within', 'Within', 1)}." in page
    assert read_facts(folder / "type.parquet")["explained"] == []


def test_correlation_is_of_ranks_less_their_means_in_the_types(folder):
    frame = read_scores(folder / "type.parquet").to_pandas().set_index(["gene_a", "gene_b"])
    cells = cells_of_two_types()
    by_type = pd.DataFrame(rankdata(cells.X.toarray(), axis=0)).groupby(cells.obs["type"].to_numpy())
    centred = by_type.transform(lambda rank: rank - rank.mean())
    for a, b in [(0, 1), (OF_TYPE, OF_TYPE + 1)]:
        wanted = np.corrcoef(centred[a], centred[b])[0, 1]
        found = frame.loc[tuple(np.array(gene_names(b + 1))[[a, b]]), "correlation"]
        assert found == pytest.approx(wanted, abs=0.02)  # of 32 bins


def test_one_stratum_gives_the_bytes_of_none(folder):
    one, none = scored(folder, "one", "one", q_values=False), read_scores(folder / "none.parquet").to_pandas()
    none = none.drop(columns="q_value")
    pd.testing.assert_frame_equal(one, none, rtol=0, atol=0)
    facts = read_facts(folder / "one.parquet")
    assert (facts["within"], facts["strata"]) == (["one"], 1)


def test_universal_compares_within_depth_unless_told(folder):
    scored(folder, "depth", None, q_values=False)
    facts = read_facts(folder / "depth.parquet")
    assert (facts["within"], facts["strata"]) == (["depth"], 10)
    assert "within" not in read_facts(folder / "none.parquet")


def test_same_bytes_from_threads_and_after_a_kill_and_other_strata_begin_anew(folder, monkeypatch):
    wanted = (folder / "type.parquet").read_bytes()
    scored(folder, "threads", "type", compute=Compute("threads", 2))
    assert (folder / "threads.parquet").read_bytes() == wanted

    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(predict, "find_explained", stop)
        for within in ("type,chip", "type"):
            with pytest.raises(KeyboardInterrupt):
                scored(folder, "killed", within)
            assert len(list(folder.glob(".killed.parquet.wip/within-margins-*.npy"))) == 1
    scored(folder, "killed", "type")
    assert (folder / "killed.parquet").read_bytes() == wanted


def test_the_screen_ranks_by_what_is_left(folder):
    frame = scored(folder, "screened", "type", screen=0.05, q_values=False)
    sort = kinds_of_pairs(frame)
    assert frame["score"].notna()[sort["hidden"]].mean() > 0.8
    assert frame["score"].notna()[sort["of type"]].mean() < 0.2


BAD = {
    "no such column": ({"within": "typ"}, "'typ' is no column .* type"),
    "a measurement": ({"within": "size"}, "'size' is a measurement"),
    "missing values": ({"within": "holes"}, "5 of 600 cells have no value"),
    "strata too fine": ({"within": "fine"}, "300 strata of 600 cells"),
    "twice the same": ({"within": "type,type"}, "several different ones"),
    "an empty name": ({"within": "type,"}, "give one column"),
    "nothing": ({"within": ""}, "give one column"),
    "none beside a column": ({"within": "none,type"}, "by itself for all cells"),
    "with resamples": ({"within": "type", "bootstrap": 10}, "leave out one of the two"),
}


@pytest.mark.parametrize(("options", "words"), BAD.values(), ids=BAD)
def test_what_cannot_be_compared_is_refused_before_anything_is_written(folder, tmp_path, options, words):
    with pytest.raises(InputError, match=words) as error:
        pairscape.predict(
            "universal", folder / "cells.zarr", tmp_path / "s.parquet", compute=HERE, quiet=True, **options
        )
    assert "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())


def test_a_column_named_depth_is_refused_where_depth_is_asked_for(tmp_path):
    cells, options = cells_of_two_types(), {"compute": HERE, "quiet": True, "q_values": False}
    cells.obs["depth"] = "deep"
    pairscape.ingest(cells, tmp_path / "c.zarr", preset="none", quiet=True)
    with pytest.raises(InputError, match="rename that column"):
        pairscape.predict("universal", tmp_path / "c.zarr", tmp_path / "s.parquet", within="depth", **options)
    pairscape.predict("universal", tmp_path / "c.zarr", tmp_path / "s.parquet", **options)
    assert read_facts(tmp_path / "s.parquet")["within"] == ["depth"]


def test_an_image_store_has_no_annotations(folder, tmp_path):
    facts = read_facts(folder / "none.parquet")["model"]
    pairscape.heatmaps(
        folder / "cells.zarr", tmp_path / "i.zarr", all_pairs=True, bins=facts["bins"], scale=facts["scale"],
        compute=HERE, quiet=True,
    )  # fmt: skip
    with pytest.raises(InputError, match="give the matrix"):
        pairscape.predict(
            "universal", tmp_path / "s.parquet", images=tmp_path / "i.zarr", within="type", compute=HERE, quiet=True
        )


@pytest.mark.skipif("PAIRSCAPE_DATA" not in os.environ, reason="PAIRSCAPE_DATA is not set")
def test_stimulated_monocytes(tmp_path):
    whole = ad.read_h5ad(Path(os.environ["PAIRSCAPE_DATA"], "sets", "kang_pbmc_ifnb_2800.h5ad"))
    cells = whole[whole.obs["cell_type"] == "CD14 Mono"].copy()
    genes = [
        "ISG15",
        "IFI6",
        "LY6E",
        "MX1",
        "IFIT3",
        "ISG20",
        "IRF7",
        "PLSCR1",
        "APOBEC3A",
        "RPS3A",
        "S100A8",
        "S100A9",
    ]
    pairscape.ingest(cells, tmp_path / "cells.zarr", quiet=True)
    listed = pd.DataFrame([(a, b) for i, b in enumerate(genes) for a in genes[:i]], columns=["gene_a", "gene_b"])
    found = {}
    for within in ("none", "condition"):
        out = tmp_path / f"{within}.parquet"
        found[within] = pairscape.predict(
            "universal", tmp_path / "cells.zarr", out, pairs=listed, within=within, codes=tmp_path / "c.zarr",
            q_values=False, compute=HERE, quiet=True,
        )  # fmt: skip
    known = read_facts(tmp_path / "none.parquet")["explained"]
    assert [column["column"] for column in known] == ["condition"]
    for partner, before, after in [("IFI6", 0.809, 0.172), ("LY6E", 0.830, 0.189), ("IFIT3", 0.851, 0.212)]:
        for within, wanted in (("none", before), ("condition", after)):
            frame = found[within]
            row = frame[frame[["gene_a", "gene_b"]].isin(["ISG15", partner]).all(axis=1)].iloc[0]
            assert row["correlation"] == pytest.approx(wanted, abs=0.002)


def test_how_many_cells_of_a_group_express_a_gene_is_read_off_the_margins(folder, tmp_path):
    codes, genes = open_codes(folder / "codes.zarr"), np.arange(0, OF_TYPE + CANCELLED + FREE, 3)
    groups = check_columns(open_expression(folder / "cells.zarr").obs(), ["type"])
    within = lay_strata(codes, groups, ("type", "depth"), genes, tmp_path, 0, Session())
    coded, zero = codes.read(genes, slice(0, codes.n_cells)).astype(int), zero_bin(codes.array("edges"))[genes]
    outside = np.where(coded > 0, coded - 1, zero[:, None]) != zero[:, None]
    for layer in lay_groups(groups, tmp_path):
        share = within.of_group(layer).expressing(codes)
        np.testing.assert_allclose(share[genes], outside[:, layer.members()].mean(1))
        assert not np.delete(share, genes).any()
