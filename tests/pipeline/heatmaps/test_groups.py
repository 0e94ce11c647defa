"""Groups of cells: each group's images are numpy's over its cells, and together they are the ungrouped store."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
import xarray
import zarr
from anndata import AnnData, read_zarr
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

import pairscape
from conftest import small_shards
from heatmap_jobs import FINE, contents, run, store_hash
from pairscape.model.reports import heatmap_figures
from pairscape.pipeline.codes.encode import encode_matrix
from pairscape.pipeline.compute.clusters import open_client
from pairscape.pipeline.compute.session import Session
from pairscape.pipeline.errors import InputError, JobError
from pairscape.pipeline.genes.pairs import Pairs
from pairscape.pipeline.heatmaps import count, gene_reader, read, tiles
from pairscape.pipeline.heatmaps import job as heatmaps
from pairscape.pipeline.heatmaps.count import Spent, count_groups
from pairscape.pipeline.heatmaps.gene_cells import GeneCells
from pairscape.pipeline.heatmaps.gene_reader import GeneReader, held_reader
from pairscape.pipeline.heatmaps.images import ImageSpec, open_images
from pairscape.pipeline.heatmaps.kernel import GeneBlock, Margins
from pairscape.pipeline.heatmaps.memory import Portion, portion
from pairscape.pipeline.heatmaps.narrow import count_complete
from pairscape.pipeline.heatmaps.read import read_images
from pairscape.pipeline.heatmaps.repair import repair_store
from pairscape.pipeline.heatmaps.shards import differing_shards, shard_file
from pairscape.pipeline.heatmaps.tiles import storage_order, tiles_of
from pairscape.pipeline.heatmaps.verify import verify_store
from pairscape.pipeline.matrix.cell_groups import NO_GROUP, CellGroups
from pairscape.pipeline.matrix.expression import open_expression
from pairscape.pipeline.matrix.ingest import ingest
from pairscape.pipeline.options import Binning, Compute
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
    drawn = data.draw(st.lists(st.sampled_from([0, 1, 2, 3, NO_GROUP]), min_size=150, max_size=150))
    number = np.array(drawn, np.uint16)
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


@pytest.mark.parametrize("genes_b", [1, 40])
@pytest.mark.parametrize("wrong", ["a", "b"])
def test_counts_that_cannot_be_are_told(genes_b, wrong):
    """Walked with a block of genes, and alone with one of them: margins that are smaller than what was counted."""
    cells = GeneCells.from_codes(np.ones((40, 100), np.uint8))
    margins = {"a": cells.margins(8), "b": cells.margins(8)}
    margins[wrong][0, 0] = 99
    a, b = (Margins(counts, np.zeros(40, np.int64)) for counts in margins.values())
    pairs = np.array([0, genes_b]), np.arange(genes_b)
    images = np.empty((genes_b, 8, 8), np.uint16)
    with pytest.raises(JobError, match=f"image 0 of {genes_b}: its counts and those of its genes contradict"):
        count_complete(GeneBlock.lay_out(cells, 8), cells.take(np.array([0])), pairs, images, (a, b))


@pytest.fixture(scope="module")
def codes(typed, tmp_path_factory):
    path = tmp_path_factory.mktemp("codes") / "c.zarr"
    return encode_matrix(open_expression(typed), path, Binning("max", 16), np.arange(150), Session())


# ── the same bytes ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def truth(typed, tmp_path_factory):
    """A finished store of fine images in three types, five shards, and its codes."""
    folder = tmp_path_factory.mktemp("truth")
    run(typed, folder / "i.zarr", binning=FINE, by="type", least=20)
    return folder


def test_two_workers_write_the_same_bytes(truth, typed, tmp_path):
    with open_client(Compute("local", 2, "2GB")) as client:
        run(typed, tmp_path / "i.zarr", binning=FINE, by="type", least=20, session=Session(client=client))
    assert store_hash(tmp_path / "i.zarr") == store_hash(truth / "i.zarr")


@pytest.mark.parametrize(("cells", "shards", "together"), [(64, 1, 3), (64, 2, 2), (150, 1, 1)])
def test_slabs_and_groups_at_once_change_no_byte(cells, shards, together, truth, typed, tmp_path, monkeypatch):
    monkeypatch.setattr(heatmaps, "portion", lambda *_, **__: Portion(cells, shards, 0, 0, together))
    run(typed, tmp_path / "i.zarr", binning=FINE, by="type", least=20)
    assert store_hash(tmp_path / "i.zarr") == store_hash(truth / "i.zarr")


def test_what_is_missing_is_counted_again(truth, typed, tmp_path):
    target = tmp_path / "i.zarr"
    shutil.copytree(truth / "i.zarr", target)
    images = open_images(target)
    shard_file(images, "counts", 1, 2).unlink()  # of one group
    (target / "receipts" / "3.json").unlink()
    with pytest.raises(InputError, match="half-written: 2 of 5 shards"):
        open_images(target)
    done = run(typed, target, binning=FINE, by="type", least=20)
    assert (done.computed, done.kept) == (2, 3)
    assert store_hash(target) == store_hash(truth / "i.zarr")


@pytest.mark.parametrize("array", ["counts", "both_zero"])
def test_a_damaged_file_of_a_group_is_found_and_repaired(array, truth, tmp_path):
    target = tmp_path / "i.zarr"
    shutil.copytree(truth / "i.zarr", target)
    file = shard_file(open_images(target), array, 3, 1)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    found = verify_store(target, Session(), truth / "i.codes.zarr")
    assert found.lines() == [f"shard 3: {array}/1 is not the file the receipt describes"]
    assert differing_shards(open_images(target)) == [3]
    if array == "counts":
        with pytest.raises(JobError, match=r"shard 3 of .* is damaged"):
            read_images(open_images(target), np.arange(3 * 256, 4 * 256))
    repair_store(target, truth / "i.codes.zarr", None, Session())
    assert store_hash(target) == store_hash(truth / "i.zarr")


def test_two_files_of_a_shard_that_are_exchanged_are_found(truth, tmp_path):
    """Sizes and receipts forged to fit: only counting again tells, or the sums of the images."""
    target = tmp_path / "i.zarr"
    shutil.copytree(truth / "i.zarr", target)
    one, other = (shard_file(open_images(target), "counts", 0, group) for group in (0, 2))
    first, second = one.read_bytes(), other.read_bytes()
    one.write_bytes(second)
    other.write_bytes(first)
    receipt = target / "receipts" / "0.json"
    said = json.loads(receipt.read_bytes())
    said["counts/0"], said["counts/2"] = said["counts/2"], said["counts/0"]
    receipt.write_bytes(json.dumps(said).encode())
    (line,) = verify_store(target, Session(), truth / "i.codes.zarr").lines()
    assert line == "shard 0: an image does not sum to the number of cells"


def test_codes_that_are_gone_are_made_again_for_a_repair(truth, typed, tmp_path):
    target = tmp_path / "i.zarr"
    shutil.copytree(truth / "i.zarr", target)
    shard_file(open_images(target), "counts", 4, 0).unlink()
    repair_store(target, tmp_path / "c.zarr", typed, Session())
    assert store_hash(target) == store_hash(truth / "i.zarr")


@pytest.mark.parametrize("by", ["donor", "donor,type", None])
def test_another_grouping_is_another_job(by, truth, typed, tmp_path):
    target = tmp_path / "i.zarr"
    shutil.copytree(truth / "i.zarr", target)
    before = contents(target)
    with pytest.raises(InputError, match=r"holds another job .*, 3 groups by type\)"):
        run(typed, target, binning=FINE, codes=truth / "i.codes.zarr", by=by)
    assert contents(target) == before


def test_one_worker_counts_groups_and_all_cells_in_turn(codes):
    """A reader is kept while its tasks are of one job, and its genes lie in the groups of that job."""
    share, number = portion(codes.binning, 150, 1.0, None, groups=2), np.arange(150, dtype=np.uint16) % 2
    one, other = (CellGroups(("x",), ("a", "b"), n) for n in (number, 1 - number))
    reader = held_reader(codes, share, one)
    assert held_reader(codes, share, CellGroups(("x",), ("a", "b"), number.copy())) is reader
    for groups in (None, other):
        assert held_reader(codes, share, groups) is not reader


# ── read ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_rows_are_read_of_a_group_and_of_all(truth):
    images, rows = open_images(truth / "i.zarr"), np.array([0, 5, 255, 256, 900, 1034])
    of_groups = [read_images(open_images(truth / "i.zarr", group=name), rows) for name in images.groups]
    counts, both_zero = read_images(images, rows)
    for (own, zeros), number in zip(of_groups, range(3), strict=True):
        direct = zarr.open_group(truth / "i.zarr", mode="r")
        np.testing.assert_array_equal(own, direct["counts"][number][rows])
        np.testing.assert_array_equal(zeros, direct["both_zero"][number][rows])
    np.testing.assert_array_equal(counts, np.sum([own for own, _ in of_groups], axis=0))
    np.testing.assert_array_equal(both_zero, np.sum([zeros for _, zeros in of_groups], axis=0))


def test_a_store_that_someone_encoded_anew_is_read_through_zarr(truth, monkeypatch):
    images, rows = open_images(truth / "i.zarr", group="T"), np.array([3, 700])
    expected = read_images(images, rows)
    monkeypatch.setattr(read, "_is_plain", lambda *_: False)
    for found, wanted in zip(read_images(images, rows), expected, strict=True):
        np.testing.assert_array_equal(found, wanted)


def test_xarray_opens_it_with_names_of_the_groups(truth):
    with xarray.open_zarr(truth / "i.zarr") as found:
        assert found["counts"].dims == ("group", "pair", "bin_b", "bin_a")
        assert found["group"].values.tolist() == ["B", "NK", "T"]
        assert found["group_cells"].values.tolist() == [40, 35, 60]
        assert found.attrs["format_version"] == 2
        np.testing.assert_array_equal(found["cell_group"].values == NO_GROUP, (KIND < 0) | (KIND > 2))


def test_a_group_is_asked_for_by_name(truth, expression_path, tmp_path):
    with pytest.raises(InputError, match="no group 'Tregs': its groups are B, NK, T; give one of them"):
        open_images(truth / "i.zarr", group="Tregs")
    run(expression_path, tmp_path / "i.zarr")
    with pytest.raises(InputError, match="no group 'T': it has no groups of cells"):
        open_images(tmp_path / "i.zarr", group="T")


# ── version 1 ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_store_without_groups_is_what_it_was():
    """Its plan hash is that of the version before there were groups, so such a store is found, resumed and read."""
    before = "55b102cabf87798981b6be49624225e32478470a9211d2e053172e804df2b81b"
    assert ImageSpec("c", "h", Binning(), 10, 20, "p").plan_hash == before
    assert "groups" not in ImageSpec("c", "h", Binning(), 10, 20, "p").facts()


# ── planned ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_plan_counts_images_of_every_group(typed):
    cost = pairscape.plan(typed, all_pairs=True, by="donor", min_group_cells=20, scheduler="synchronous", quiet=True)
    plain = pairscape.plan(typed, all_pairs=True, scheduler="synchronous", quiet=True)
    assert (cost.groups, plain.groups, cost.pairs) == (2, 1, plain.pairs)
    assert cost.store_bytes > plain.store_bytes
    assert "in each of 2 groups" in cost.lines()[0]


@pytest.mark.parametrize("groups", [1, 10, 1000])
@pytest.mark.parametrize("cells", [100_000, 50_000_000])
def test_memory_is_bounded_for_any_number_of_groups(groups, cells):
    limit = 4 * 10**9
    share = portion(Binning(), cells, 0.1, limit, groups=groups)
    assert share.task_bytes <= limit
    assert share.groups * share.shards * 2**25 <= limit


# ── bad input ────────────────────────────────────────────────────────────────────────────────────────────────────────

BAD = {
    "no such column": ({"by": "typ"}, r"'typ' is no column .*: there are type"),
    "twice": ({"by": "type,type"}, "several different ones"),
    "empty": ({"by": "type,"}, "by is 'type,'"),
    "a measurement": ({"by": "depth"}, "'depth' is a measurement: 150 different numbers"),
    "too small": ({"by": "type", "min_group_cells": 1000}, "none of 4 groups has 1000 cells or more"),
    "one left": ({"by": "type", "min_group_cells": 50}, "only T of 4 groups"),
    "one value": ({"by": "same"}, "of 1 groups"),
    "no group can be so small": ({"by": "type", "min_group_cells": 1}, "fewer than 2 cells"),
    "least without groups": ({"min_group_cells": 20}, "give --by COLUMN too"),
}


@pytest.mark.parametrize("command", ["heatmaps", "plan"])
@pytest.mark.parametrize("name", BAD)
def test_what_makes_no_groups_is_refused(name, command, typed, tmp_path):
    options, message = BAD[name]
    matrix = read_zarr(typed)
    matrix.obs["depth"], matrix.obs["same"] = np.linspace(0, 1, 150), "x"
    paths = [tmp_path / "i.zarr"] if command == "heatmaps" else []
    with pytest.raises(InputError, match=message):
        getattr(pairscape, command)(matrix, *paths, all_pairs=True, scheduler="synchronous", quiet=True, **options)
    assert not (tmp_path / "i.zarr").exists()


def test_groups_of_the_image_half(typed, tmp_path, capsys):
    images = pairscape.heatmaps(
        typed, tmp_path / "i.zarr", all_pairs=True, labels="replicate", by="type", min_group_cells=15,
        scheduler="synchronous",
    )  # fmt: skip
    said = capsys.readouterr().out
    assert images.spec.n_cells == sum(images.spec.groups.cells) < 75
    assert "cells have no value in type: left out" in said
    assert "groups of type with fewer than 15 cells are left out: rare (" in said


# ── shown ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_pair_is_drawn_in_every_group(truth, typed, dense, tmp_path, monkeypatch, capsys):
    store, drawn = open_images(truth / "i.zarr"), []
    monkeypatch.setattr(heatmap_figures, "_draw", lambda axes, image, *names: drawn.append((image, *names[1:])))
    pairscape.show(truth / "i.zarr", "G3", "G40", output=tmp_path / "p.png")
    assert "3 groups, 135 cells" in capsys.readouterr().out
    edges = store.array("edges")
    for number, (image, *names) in enumerate(drawn[::2]):
        own = dense[number == KIND]
        expected = joint_counts(own, edges, [3], [40])[0]
        np.testing.assert_allclose(image * len(own), expected)
        assert names == ["G3", "G40"]
    drawn.clear()
    pairscape.show(truth / "i.zarr", "G40", "G3", by="donor", min_group_cells=20, output=tmp_path / "p.png")
    own = dense[::2]
    np.testing.assert_allclose(drawn[0][0] * len(own), joint_counts(own, edges, [40], [3])[0])


def test_groups_that_nobody_knows_any_more_are_not_drawn(truth, typed, tmp_path):
    elsewhere, output = tmp_path / "e.zarr", tmp_path / "p.png"
    shutil.copytree(typed, elsewhere)
    run(elsewhere, tmp_path / "i.zarr")
    with pytest.raises(InputError, match="name its two genes"):
        pairscape.show(tmp_path / "i.zarr", by="type", output=output)
    (elsewhere / "zarr.json").write_bytes((elsewhere / "zarr.json").read_bytes() + b" ")
    with pytest.raises(InputError, match="has changed since"):
        pairscape.show(tmp_path / "i.zarr", "G1", "G2", by="type", output=output)
    shutil.rmtree(elsewhere)
    with pytest.raises(InputError, match=r"is not at .* any more"):
        pairscape.show(tmp_path / "i.zarr", "G1", "G2", by="type", output=output)
    assert not output.exists()
