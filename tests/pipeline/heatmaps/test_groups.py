"""Groups of cells: each group's images are numpy's over its cells, and together they are the ungrouped store."""

import shutil

import numpy as np
import pandas as pd
import pytest
import xarray
from anndata import AnnData
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from conftest import Silent, simulated, small_shards
from heatmap_jobs import ALL, FINE, contents, run, store_hash
from pairscape.pipeline.codes.encode import encode_matrix
from pairscape.pipeline.compute.clusters import open_client
from pairscape.pipeline.compute.session import Session
from pairscape.pipeline.errors import InputError, JobError
from pairscape.pipeline.genes.pairs import Pairs
from pairscape.pipeline.heatmaps import count, gene_reader, tiles
from pairscape.pipeline.heatmaps import job as heatmaps
from pairscape.pipeline.heatmaps.count import Spent, count_groups, count_pairs_by_group
from pairscape.pipeline.heatmaps.gene_reader import GeneReader, held_reader
from pairscape.pipeline.heatmaps.images import open_images
from pairscape.pipeline.heatmaps.job import resolve_request
from pairscape.pipeline.heatmaps.memory import Portion, portion
from pairscape.pipeline.heatmaps.read import read_images
from pairscape.pipeline.heatmaps.repair import repair_store
from pairscape.pipeline.heatmaps.shards import differing_shards, shard_file
from pairscape.pipeline.heatmaps.tiles import storage_order, tiles_of
from pairscape.pipeline.heatmaps.verify import verify_store
from pairscape.pipeline.matrix.cell_groups import CellGroups, NO_GROUP
from pairscape.pipeline.matrix.expression import open_expression
from pairscape.pipeline.matrix.ingest import ingest
from pairscape.pipeline.options import Binning, Grouping, PairSource
from reference import joint_counts

TYPES = ("B", "NK", "T", "rare")
KIND = np.random.default_rng(5).permutation(np.repeat([0, 1, 2, 3, -1], [40, 35, 60, 5, 10]))  # −1: not known


@pytest.fixture(scope="module")
def typed(tmp_path_factory, dense):
    """The 150 cells × 46 genes with types, of which one is rare, and donors; some cells have no type."""
    kind = pd.Categorical.from_codes(KIND, TYPES)
    obs = pd.DataFrame({"type": kind, "donor": ["d1", "d2"] * 75}, index=[f"c{i}" for i in range(150)])
    var = pd.DataFrame(index=[f"G{i}" for i in range(46)])
    path = tmp_path_factory.mktemp("typed") / "e.zarr"
    ingest(AnnData(sparse.csr_matrix(dense), obs=obs, var=var), path, preset="none")
    return path


@pytest.fixture
def shards_of_48(monkeypatch):
    small_shards(monkeypatch, 48)


def by_type(dense, images):
    """What the images of each group have to be, (M, P, bins, bins)."""
    pairs, edges = images.pairs(), images.array("edges")
    of_group = [joint_counts(dense[kind == KIND], edges, pairs.gene_a, pairs.gene_b) for kind in range(3)]
    return np.stack(of_group)


def whole(images):
    return images.counts(slice(0, images.spec.n_pairs))


# ── exact ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("scale", ["max", "rank"])
def test_images_of_each_group_are_those_of_numpy(scale, typed, dense, shards_of_48, tmp_path):
    done = run(typed, tmp_path / "i.zarr", binning=Binning(scale, 32), by="type", least=20)
    images, expected = open_images(tmp_path / "i.zarr"), by_type(dense, done.images)
    assert images.groups == TYPES[:3]
    assert images.spec.n_cells == 135
    np.testing.assert_array_equal([whole(images.of_group(name)) for name in images.groups], expected)
    np.testing.assert_array_equal(whole(images), expected.sum(axis=0))
    for number, name in enumerate(images.groups):
        own, cells = images.of_group(name), dense[number == KIND]
        pairs = own.pairs()
        zeros = ((cells[:, pairs.gene_a] == 0) & (cells[:, pairs.gene_b] == 0)).sum(axis=0)
        np.testing.assert_array_equal(own.array("both_zero"), zeros)
        assert own.spec.n_cells == len(cells)
    assert verify_store(tmp_path / "i.zarr", Session()).lines() == []


def test_groups_of_all_cells_sum_to_the_store_without_groups(typed, shards_of_48, tmp_path):
    run(typed, tmp_path / "g.zarr", by="donor,type", codes=tmp_path / "c.zarr")
    run(typed, tmp_path / "d.zarr", by="donor", codes=tmp_path / "c.zarr")
    run(typed, tmp_path / "i.zarr", codes=tmp_path / "c.zarr")
    plain, donors, crossed = (open_images(tmp_path / f"{name}.zarr") for name in "idg")
    np.testing.assert_array_equal(whole(donors), whole(plain))
    np.testing.assert_array_equal(donors.array("both_zero"), plain.array("both_zero"))
    assert crossed.groups[:2] == ("d1 / B", "d1 / NK")
    assert crossed.spec.n_cells == 140
    np.testing.assert_array_equal(donors.array("edges"), plain.array("edges"))


pair_lists = st.lists(st.tuples(st.integers(0, 45), st.integers(0, 45)), min_size=1, max_size=60)


@given(listed=pair_lists, cells=st.sampled_from([17, 64, 150]), together=st.sampled_from([1, 2, 5]), data=st.data())
def test_any_tiling_in_any_groups_gives_the_images_of_numpy(listed, cells, together, data, dense, codes):
    """Slabs of so many cells, so many groups at once; groups of any size, also without a cell in some slabs."""
    number = np.array(data.draw(st.lists(st.sampled_from([0, 1, 2, 3, NO_GROUP]), min_size=150, max_size=150)), np.uint16)
    number[:4] = np.arange(4)
    groups = CellGroups(("x",), ("a", "b", "c", "d"), number)
    gene_a, gene_b = np.array(listed, np.int32).T
    pairs = storage_order(Pairs(gene_a, gene_b, np.zeros(gene_a.size, np.int8)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiles, "BLOCK_GENES", data.draw(st.sampled_from([2, 256])))
        patch.setattr(gene_reader, "READ_CELLS", data.draw(st.sampled_from([13, 2**20])))
        patch.setattr(count, "GENES_AT_ONCE", data.draw(st.sampled_from([1, 64])))
        reader = GeneReader(codes, Portion(cells, 1, data.draw(st.sampled_from([0, 300, 10**6])), 0, together), groups)
        listed = [tile for shard in tiles_of(pairs.gene_b, 30) for tile in shard]
        for some in reader.group_runs():
            counted = count_groups(reader, listed, lambda name, a, b: getattr(pairs, name)[a:b], Spent(), some)
            for group, counts, both_zero in zip(some, *counted, strict=True):
                own = dense[number == group]
                expected = joint_counts(own, codes.array("edges"), pairs.gene_a, pairs.gene_b)
                np.testing.assert_array_equal(counts, expected)
                zeros = (own[:, pairs.gene_a] == 0) & (own[:, pairs.gene_b] == 0)
                np.testing.assert_array_equal(both_zero, zeros.sum(axis=0))


@pytest.fixture(scope="module")
def codes(typed, tmp_path_factory):
    path = tmp_path_factory.mktemp("codes") / "c.zarr"
    return encode_matrix(open_expression(typed), path, Binning("max", 16), np.arange(150), Session())
