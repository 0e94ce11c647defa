"""`predict --by`: each group of cells scored by its own cells, and beside them all groups combined."""

import anndata as ad
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from scipy import sparse

import pairscape
from model_fixtures import gene_names
from pairscape.model.edges.edges import choose_edges
from pairscape.model.edges.evidence import scored_edge, show_scores
from pairscape.model.edges.scores import COMBINED, facts_of_group, read_facts, read_scores
from pairscape.model.evaluation.association import associations
from pairscape.model.networks.bundled import find_run
from pairscape.model.networks.classifier import TrainedNetwork
from pairscape.model.networks.fast import Scorer
from pairscape.model.options import EdgeChoice
from pairscape.model.prediction import parts
from pairscape.model.prediction.parts import answers
from pairscape.model.prediction.within import lay_groups
from pairscape.pipeline.codes.store import open_codes
from pairscape.pipeline.errors import InputError
from pairscape.pipeline.heatmaps.gene_reader import GeneReader
from pairscape.pipeline.heatmaps.memory import portion
from pairscape.pipeline.heatmaps.pairwise import PairRun, count_decoys
from pairscape.pipeline.matrix.cell_groups import CellGroups
from pairscape.pipeline.options import Compute
from reference import joint_counts

HERE = Compute("synchronous")
GENES, SIZES = 24, (160, 120, 20)  # of types A, B and the rare one; ten cells of none
PAIRED, TYPED = 8, 8  # genes: rising with each other in A only; moved by the type


def cells_of_types():
    """Log expression: genes 0 and 1, 2 and 3, … depend on each other in type A alone; eight follow the type."""
    rng = np.random.default_rng(3)
    kind = rng.permutation(np.repeat([0, 1, 2, 3], [*SIZES, 10]))
    values = rng.normal(size=(kind.size, GENES))
    a = kind == 0
    values[a, 1:PAIRED:2] = 0.9 * values[a, 0:PAIRED:2] + 0.4 * values[a, 1:PAIRED:2]
    values[:, PAIRED : PAIRED + TYPED] += 2.0 * a[:, None]
    names = np.array(["A", "B", "rare", ""], object)[kind]
    obs = pd.DataFrame(
        {
            "type": pd.Categorical(np.where(kind == 3, None, names)),
            "chip": rng.integers(0, 2, kind.size),
            "clash": np.where(a, "combined", "other"),
            "size": rng.random(kind.size),
        },
        index=[f"cell_{i}" for i in range(kind.size)],
    )
    made = np.maximum(values + 1.5, 0).astype(np.float32)
    return ad.AnnData(sparse.csr_matrix(made), obs=obs, var=pd.DataFrame(index=gene_names(GENES)))


def scored(folder, name, matrix="cells.zarr", **options):
    pairscape.predict(
        "universal", folder / matrix, folder / f"{name}.parquet", codes=folder / f"{matrix}.codes.zarr",
        all_pairs=True, quiet=True, **{"compute": HERE, **options},
    )  # fmt: skip
    return folder / f"{name}.parquet"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder, cells = tmp_path_factory.mktemp("by"), cells_of_types()
    pairscape.ingest(cells, folder / "cells.zarr", preset="none", quiet=True)
    large = cells[cells.obs["type"].isin(["A", "B"]).to_numpy()].copy()
    pairscape.ingest(large, folder / "large.zarr", preset="none", quiet=True)
    scored(folder, "plain", by="type", within="none")
    scored(folder, "depth", by="type", within="depth")
    return folder


def members(folder, name):
    cells = ad.read_zarr(folder / "large.zarr")
    return cells.X.toarray()[(cells.obs["type"] == name).to_numpy()]


def test_rows_are_long_all_pairs_of_a_group_after_those_of_another(folder):
    frame, facts = pd.read_parquet(folder / "plain.parquet"), read_facts(folder / "plain.parquet")
    pairs = GENES * (GENES - 1) // 2
    assert frame["group"].tolist() == [name for name in (COMBINED, "A", "B") for _ in range(pairs)]
    for name in ("gene_a", "gene_b"):
        blocks = frame[name].astype(str).to_numpy().reshape(3, pairs)
        assert (blocks == blocks[0]).all()
    assert facts["groups"] == {"columns": ["type"], "names": ["A", "B"], "cells": [160, 120]}
    assert facts["matrix"]["n_cells"] == 280
    assert facts["pairs"]["n_pairs"] == pairs


@pytest.mark.parametrize(("name", "within"), [("plain", "type"), ("depth", "type,depth")])
def test_combined_is_what_within_the_groups_gives_over_their_cells(name, within, folder):
    alone = read_scores(scored(folder, f"within-{name}", "large.zarr", within=within)).to_pandas()
    combined = read_scores(folder / f"{name}.parquet").to_pandas().drop(columns="group")
    pd.testing.assert_frame_equal(combined, alone, rtol=0, atol=0)
    facts, other = read_facts(folder / f"{name}.parquet"), read_facts(folder / f"within-{name}.parquet")
    for fact in ("within", "strata", "fdr", "explained"):
        assert facts[fact] == other[fact]


@pytest.mark.parametrize("name", ["A", "B"])
def test_a_group_has_the_scores_of_its_own_cells(name, folder):
    """Counted by numpy over the cells of the group, with the edges over the cells of all groups."""
    found = read_scores(folder / "plain.parquet", group=name).to_pandas()
    a, b = (found[gene].astype(str).map(gene_names(GENES).index).to_numpy() for gene in ("gene_a", "gene_b"))
    codes, cells = open_codes(folder / "cells.zarr.codes.zarr"), members(folder, name)
    assert codes.n_cells == 280
    counts = joint_counts(cells, codes.array("edges"), a, b)
    both_zero = ((cells[:, a] == 0) & (cells[:, b] == 0)).sum(axis=0).astype(np.uint32)
    network = TrainedNetwork.load(find_run("universal", lambda *_: None))
    said = answers(Scorer.of(network, read_facts(folder / "plain.parquet")["prior"], "cpu"), (counts, both_zero))
    np.testing.assert_array_equal(found["score"], said.score.astype(np.float32))
    correlation, dependence = associations(counts, None)
    np.testing.assert_array_equal(found["correlation"], correlation.astype(np.float32))
    np.testing.assert_array_equal(found["dependence"], dependence.astype(np.float32))


def test_a_group_within_depth_is_what_its_cells_alone_say(folder):
    """Its strata are deciles of its own cells: the same strata as in a job on these cells."""
    strata = facts_of_group(folder / "depth.parquet", "A")
    assert (strata["within"], strata["strata"]) == (["depth"], 8)  # 160 cells, 20 a stratum
    assert read_facts(folder / "depth.parquet")["within"] == ["type", "depth"]
    assert read_facts(folder / "depth.parquet")["strata"] == 8 + 6


def test_what_holds_in_one_group_is_found_there_and_what_the_type_makes_is_not_found(folder):
    of = {name: read_scores(folder / "plain.parquet", group=name).to_pandas() for name in (COMBINED, "A", "B")}
    a, b = (of["A"][gene].astype(str).map(gene_names(GENES).index).to_numpy() for gene in ("gene_a", "gene_b"))
    paired = (a % 2 == 0) & (b == a + 1) & (b < PAIRED)
    typed = (a >= PAIRED) & (b >= PAIRED) & (b < PAIRED + TYPED)
    assert (of["A"]["score"][paired] > 0.9).all()
    assert (of["A"]["q_value"][paired] < 0.3).all()  # four pairs beside as many decoys as pairs: no q is smaller
    assert (of["B"]["q_value"][paired] > 0.5).all()
    for frame in of.values():
        assert (frame["q_value"][typed] > 0.5).all()


def test_decoys_of_a_group_are_its_own_cells_dealt(folder, tmp_path):
    codes, rng = open_codes(folder / "cells.zarr.codes.zarr"), np.random.default_rng(0)
    groups = CellGroups(("x",), ("a", "b"), rng.integers(0, 2, codes.n_cells).astype(np.uint16))
    layer = lay_groups(groups, tmp_path)[1]
    cells = ad.read_zarr(folder / "large.zarr").X.toarray()[layer.members()]
    assert len(cells) == layer.cells
    place = rng.permutation(layer.cells).astype(np.int32)
    run = PairRun(0, np.array([0, 5, 7]), np.array([1, 9, 8]))
    reader = GeneReader(codes, portion(codes.binning, codes.n_cells, 1.0, None, groups=2), layer.groups())
    ((counts, _, a, b),) = count_decoys(reader, run, place, layer.number)
    dealt = np.empty_like(cells)
    dealt[place] = cells
    for at in range(3):
        both = np.stack([cells[:, a[at]], dealt[:, b[at]]], axis=1)
        edges = codes.array("edges")[[a[at], b[at]]]
        np.testing.assert_array_equal(counts[at], joint_counts(both, edges, [0], [1])[0])


# ── the same bytes ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_same_bytes_from_threads_and_after_a_kill(folder, monkeypatch):
    wanted = (folder / "plain.parquet").read_bytes()
    scored(folder, "threads", by="type", within="none", compute=Compute("threads", 2))
    assert (folder / "threads.parquet").read_bytes() == wanted
    written, write = [], parts.Parts.write

    def stop(own, part, columns):
        if own.layer == "group-1":
            raise KeyboardInterrupt
        written.append(own.layer)
        return write(own, part, columns)

    with monkeypatch.context() as patch:
        patch.setattr(parts.Parts, "write", stop)
        with pytest.raises(KeyboardInterrupt):
            scored(folder, "killed", by="type", within="none")
    assert written == ["", "group-0"]
    assert not (folder / "killed.parquet").exists()
    again = []
    monkeypatch.setattr(parts.Parts, "write", lambda own, *what: again.append(own.layer) or write(own, *what))
    scored(folder, "killed", by="type", within="none")
    assert again == ["group-1"]
    assert (folder / "killed.parquet").read_bytes() == wanted


def test_a_screen_is_placed_for_each_group(folder):
    path = scored(folder, "screened", by="type", within="none", screen=0.3, q_values=False)
    for name in (COMBINED, "A", "B"):
        found, whole = (
            read_scores(folder / f"{file}.parquet", group=name).to_pandas() for file in ("screened", "plain")
        )
        kept = found["score"].notna()
        assert 0.25 < kept.mean() < 0.36
        np.testing.assert_array_equal(found["score"][kept], whole["score"][kept])
        assert found["dependence"][kept].min() >= found["dependence"][~kept].max()
        assert facts_of_group(path, name)["screen"]["fraction"] == 0.3


# ── read ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_readers_work_on_one_group(folder):
    path, frame = folder / "plain.parquet", pd.read_parquet(folder / "plain.parquet")
    for name in (None, "A", "B"):
        own = frame[frame["group"] == (name or COMBINED)]
        np.testing.assert_array_equal(read_scores(path, ["score"], name)["score"].to_numpy(), own["score"])
        best = choose_edges(path, EdgeChoice(top=3, group=name))
        np.testing.assert_array_equal(best.weight, np.sort(own["score"])[::-1][:3])
        pair = scored_edge(path, "GENE001", "GENE000", name)
        np.testing.assert_array_equal(
            pair.weight, own[(own["gene_a"] == "GENE000") & (own["gene_b"] == "GENE001")]["score"]
        )
    assert show_scores(path, ("GENE000", "GENE001"), 1, "A").counts.sum() == 160
    assert show_scores(path, ("GENE000", "GENE001"), 1).counts.sum() == 280


@pytest.mark.parametrize("use", ["read", "export", "report", "show"])
def test_a_group_that_is_not_there_is_refused_with_those_that_are(use, folder, tmp_path):
    path = folder / "plain.parquet"
    uses = {
        "read": lambda: read_scores(path, group="C"),
        "export": lambda: pairscape.export(path, tmp_path / "e.csv", group="C", quiet=True),
        "report": lambda: pairscape.report(path, group="C"),
        "show": lambda: pairscape.show(path, "GENE000", "GENE001", group="C", output=tmp_path / "p.png"),
    }
    with pytest.raises(InputError, match="no group 'C': it has combined, A, B; give one of them"):
        uses[use]()
    assert not list(tmp_path.iterdir())


def test_a_file_that_something_else_laid_out_anew_is_refused(folder, tmp_path):
    table = pq.read_table(folder / "plain.parquet")
    pq.write_table(table, tmp_path / "s.parquet")  # one group of rows
    with pytest.raises(InputError, match="was written anew by something else"):
        read_scores(tmp_path / "s.parquet")


def test_the_report_lists_groups_and_shows_one(folder):
    page = (folder / "plain.html").read_text(encoding="utf-8")
    assert "Groups of cells by type" in page
    assert "The best pairs in each group" in page
    path = pairscape.report(folder / "plain.parquet", group="A")
    assert path.name == "plain.A.html"
    own = path.read_text(encoding="utf-8")
    assert "This page shows\n  the group A" in own
    assert read_facts(folder / "plain.parquet")["by_group"]["A"]["fdr"]["sentence"] in own


def test_pictures_of_a_group_need_annotations_as_they_were(folder, tmp_path):
    cells = ad.read_zarr(folder / "large.zarr")
    pairscape.ingest(cells, tmp_path / "cells.zarr", preset="none", quiet=True)
    path = scored(tmp_path, "s", by="type", within="none", q_values=False)
    cells.obs["type"] = cells.obs["type"].to_numpy()[::-1]
    pairscape.ingest(cells, tmp_path / "cells.zarr", preset="none", quiet=True, overwrite=True)
    with pytest.raises(InputError, match=r"cells\.zarr.* has changed"):
        show_scores(path, ("GENE000", "GENE001"), 1, "A")


# ── bad input ────────────────────────────────────────────────────────────────────────────────────────────────────────

BAD = {
    "no such column": ({"by": "typ"}, "'typ' is no column"),
    "a measurement": ({"by": "size"}, "'size' is a measurement"),
    "all too small": ({"by": "type", "min_group_cells": 500}, "none of 3 groups has 500 cells or more"),
    "one left": ({"by": "type", "min_group_cells": 150}, "only A of 3 groups"),
    "a group called as all of them": ({"by": "clash"}, "a group is called 'combined'"),
    "depth": ({"by": "type,depth"}, "'depth' among columns means deciles"),
    "resampled": ({"by": "type", "bootstrap": 10}, "--by type and --bootstrap 10 were given together"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_makes_no_groups_is_refused(name, folder):
    options, message = BAD[name]
    with pytest.raises(InputError, match=message):
        scored(folder, "bad", **options)
    assert not list(folder.glob("*bad*"))
