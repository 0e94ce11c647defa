"""The code store: what is written is what numpy would code; kept while it is true, made again when it is not."""

import json
import os
import shutil
import sys
from collections import Counter
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import zarr
from anndata import AnnData
from hypothesis import example, given
from hypothesis import strategies as st
from scipy import sparse

from conftest import Stages, simulated, store_expression
from heatmap_jobs import run
from pairscape.pipeline.codes import encode
from pairscape.pipeline.codes import store as module
from pairscape.pipeline.codes.binning import bin_edges, gene_statistics
from pairscape.pipeline.codes.encode import encode_matrix, encoding, sample_blocks
from pairscape.pipeline.codes.store import cell_blocks, codes_hash, open_codes
from pairscape.pipeline.compute.clusters import open_client
from pairscape.pipeline.compute.session import Session, Usage
from pairscape.pipeline.errors import InputError, JobError
from pairscape.pipeline.matrix.expression import Expression, open_expression
from pairscape.pipeline.options import Binning, Compute
from pairscape.pipeline.storage import receipts
from pairscape.pipeline.storage.write import write_file

RULES = ("max", "range", "quantile", "rank")


@pytest.fixture
def small_blocks(monkeypatch):
    """Seven blocks of 22 cells, the last one shorter."""
    monkeypatch.setattr(module, "CODES_CELLS", 22)


def expected_codes(dense, edges):
    """(G, N): 0 where not expressed, else 1 + the bin that `np.histogram` finds."""
    bins = np.stack([np.searchsorted(e, x, side="right") for e, x in zip(edges, dense.T, strict=True)])
    return np.where(dense.T == 0, 0, np.minimum(bins, edges.shape[1] - 1))


def made(path):
    """When and as what the store's first file was made: changes if it is made again."""
    status = (path / "zarr.json").stat()
    return status.st_ino, status.st_mtime_ns


def contents(folder):
    """Every file below a folder with its bytes, in the order of names."""
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.parametrize("scale", RULES)
def test_round_trip(scale, dense, expression_path, small_blocks, stages, tmp_path):
    expression, cells = open_expression(expression_path), np.arange(150)
    codes = encode_matrix(expression, tmp_path / "c.zarr", Binning(scale, 16), cells, Session(progress=stages))
    rows = expression.select(cells)
    edges = bin_edges(
        Binning(scale, 16), gene_statistics(rows.data, rows.indices, 46, 150), [x[x > 0] for x in dense.T]
    )
    np.testing.assert_array_equal(codes.array("edges"), edges)
    found = codes.read(np.arange(46), slice(0, 150))
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, expected_codes(dense, edges))
    np.testing.assert_array_equal(found == 0, dense.T == 0)
    assert (codes.n_genes, codes.n_cells, codes.binning) == (46, 150, Binning(scale, 16))
    blocks = [len(sample_blocks(150))] * 2
    edging = {"bin edges": blocks} if scale in ("rank", "quantile") else {}
    assert stages.seen == {"gene statistics": [150, 150], **edging, "encoding cells": [150, 150]}
    assert [p.name for p in tmp_path.iterdir()] == ["c.zarr"]


def test_the_store_describes_itself(dense, expression_path, silent, tmp_path):
    cells = np.arange(0, 150, 2)
    encode_matrix(open_expression(expression_path), tmp_path / "c.zarr", Binning(), cells, Session())
    store = zarr.open_group(str(tmp_path / "c.zarr"), mode="r")
    assert (store.attrs["format"], store.attrs["format_version"]) == ("pairscape-codes", 1)
    assert store.attrs["provenance"]["matrix"] == str(expression_path)
    assert store["codes"].metadata.dimension_names == ("gene", "cell")
    assert (store["codes"].dtype, store["edges"].dtype) == (np.uint8, np.float32)
    np.testing.assert_array_equal(store["cell"][:], cells)
    assert list(store["gene"][:]) == [f"G{i}" for i in range(46)]
    np.testing.assert_allclose(store["mean"][:], dense[::2].mean(axis=0, dtype=float), rtol=1e-6)
    np.testing.assert_allclose(store["variance"][:], dense[::2].var(axis=0, dtype=float), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(store["dropout"][:], (dense[::2] == 0).mean(axis=0), rtol=1e-6)


@pytest.fixture(scope="module")
def ranked(tmp_path_factory, expression_path):
    """Codes of all cells, of 46 genes in two chunks of genes."""
    path = tmp_path_factory.mktemp("codes") / "c.zarr"
    return encode_matrix(
        open_expression(expression_path), path, Binning("rank"), np.arange(150), Session(progress=Stages())
    )


@given(st.lists(st.integers(0, 45), min_size=1), st.tuples(st.integers(0, 150), st.integers(0, 150)))
@example([0, 2, 1, 3], (0, 150))
@example([30, 31, 32, 33], (0, 150))
def test_any_genes_over_any_cells(ranked, genes, ends):
    genes, cells = np.array(genes), slice(*sorted(ends))
    stored = zarr.open_array(f"{ranked.path}/codes", mode="r")[:]
    np.testing.assert_array_equal(ranked.read(genes, cells), stored[genes][:, cells])


def test_only_the_asked_cells_are_encoded(dense, expression_path, small_blocks, silent, tmp_path):
    cells = np.sort(np.random.default_rng(0).permutation(150)[:61])
    codes = encode_matrix(open_expression(expression_path), tmp_path / "c.zarr", Binning("max", 8), cells, Session())
    edges = codes.array("edges")
    np.testing.assert_array_equal(edges[:, -1], np.where((dense[cells] > 0).any(axis=0), dense[cells].max(axis=0), 1))
    np.testing.assert_array_equal(codes.read(np.arange(46), slice(0, 61)), expected_codes(dense[cells], edges))


@pytest.mark.parametrize("scale", ["rank", "quantile"])
def test_a_sample_of_the_cells_leaves_no_value_outside(scale, dense, expression_path, silent, tmp_path, monkeypatch):
    monkeypatch.setattr(encode, "SAMPLE_CELLS", 40)
    monkeypatch.setattr(encode, "SAMPLE_RUN", 10)
    monkeypatch.setattr(module, "CODES_CELLS", 16)  # a sample of three blocks
    expression, cells = open_expression(expression_path), np.arange(150)
    codes = encode_matrix(expression, tmp_path / "c.zarr", Binning(scale), cells, Session())
    edges = codes.array("edges")
    np.testing.assert_array_equal(edges[:, -1], dense.max(axis=0))
    assert (np.diff(edges) >= 0).all()
    np.testing.assert_array_equal(codes.read(np.arange(46), slice(0, 150)), expected_codes(dense, edges))


def test_the_same_codes_are_not_made_twice(expression_path, stages, silent, tmp_path):
    target = tmp_path / "c.zarr"
    first = encode_matrix(open_expression(expression_path), target, Binning(), np.arange(150), Session())
    before = made(target)
    again = encode_matrix(open_expression(expression_path), target, Binning(), np.arange(150), Session(progress=stages))
    assert again == first
    assert made(target) == before
    assert stages.seen == {"checking codes": [1, 1]}


def test_the_same_matrix_elsewhere_has_the_same_codes(dense, expression_path, stages, silent, tmp_path):
    target = tmp_path / "c.zarr"
    encode_matrix(open_expression(expression_path), target, Binning(), np.arange(150), Session())
    before = contents(target / "codes")
    elsewhere = open_expression(store_expression(tmp_path / "elsewhere.zarr", dense))
    encode_matrix(elsewhere, target, Binning(), np.arange(150), Session(progress=stages))
    assert stages.seen == {"gene statistics": [150, 150], "checking codes": [1, 1]}
    assert contents(target / "codes") == before
    assert open_codes(target).provenance["matrix"] == str(tmp_path / "elsewhere.zarr")
    assert {p.name for p in tmp_path.iterdir()} == {"c.zarr", "elsewhere.zarr"}


def test_a_matrix_whose_files_are_what_they_were_is_not_read(expression_path, stages, silent, tmp_path, monkeypatch):
    target = tmp_path / "c.zarr"
    first = encode_matrix(open_expression(expression_path), target, Binning(), np.arange(150), Session())
    monkeypatch.setattr(Expression, "rows", None)  # would fail if it were called
    assert (
        encode_matrix(open_expression(expression_path), target, Binning(), np.arange(150), Session(progress=stages))
        == first
    )
    assert stages.seen == {"checking codes": [1, 1]}


def test_a_touched_matrix_is_surveyed_once(dense, silent, tmp_path):
    source, target = store_expression(tmp_path / "e.zarr", dense), tmp_path / "c.zarr"
    encode_matrix(open_expression(source), target, Binning(), np.arange(150), Session())
    before = contents(target / "codes")
    os.utime(source / "X" / "data" / "zarr.json", ns=(1, 1))
    for surveyed in (True, False):
        stages = Stages()
        encode_matrix(open_expression(source), target, Binning(), np.arange(150), Session(progress=stages))
        assert set(stages.seen) == {"checking codes"} | ({"gene statistics"} if surveyed else set())
        assert contents(target / "codes") == before


@pytest.mark.parametrize("known", [True, False])
def test_who_refuses_the_wanted_codes_keeps_the_old_ones(known, dense, silent, tmp_path):
    """Whether their hash is known from the fingerprint, or only after the survey."""
    source, target = store_expression(tmp_path / "e.zarr", dense), tmp_path / "c.zarr"
    old = encode_matrix(open_expression(source), target, Binning(), np.arange(150), Session())
    if not known:
        os.utime(source / "X" / "data" / "zarr.json", ns=(1, 1))
    before = contents(target)
    expected = codes_hash(open_expression(source).content_hash(), np.arange(150), Binning("rank"))
    wanted = encoding(open_expression(source), target, Binning("rank"), np.arange(150), Session())
    with pytest.raises(InputError, match=expected), wanted as job:
        raise InputError(job.content_hash)
    assert old.content_hash != expected
    assert contents(target) == before
    assert {p.name for p in tmp_path.iterdir()} == {"c.zarr", "e.zarr"}


@pytest.mark.parametrize("n_cells", [150, 154])
def test_shards_are_those_of_zarr_to_the_byte(n_cells, small_blocks, silent, tmp_path):
    """The last block short or full; a chunk of genes that no cell of a block expresses."""
    dense = simulated(n_cells)
    dense[22:44, :32] = 0
    source = store_expression(tmp_path / "e.zarr", dense)
    ours = encode_matrix(open_expression(source), tmp_path / "c.zarr", Binning(), np.arange(n_cells), Session())
    layout = zarr.open_array(f"{ours.path}/codes", mode="r")
    theirs = zarr.create_array(
        str(tmp_path / "z"), shape=layout.shape, chunks=layout.chunks, shards=layout.shards, dtype="uint8",
        fill_value=0, compressors=layout.compressors,
    )  # fmt: skip
    theirs[:] = layout[:]
    assert len(contents(tmp_path / "z" / "c")) == 7
    names = {p.relative_to(tmp_path / "z"): content for p, content in contents(tmp_path / "z" / "c").items()}
    assert names == {p.relative_to(f"{ours.path}/codes"): b for p, b in contents(Path(ours.path, "codes", "c")).items()}


MANY = 40_000  # cells in three blocks: workers know no patched constants


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """A matrix of three blocks, and the files that a synchronous run makes of half of its cells."""
    folder = tmp_path_factory.mktemp("many")
    source = store_expression(folder / "e.zarr", simulated(MANY, 40))
    half = np.sort(np.random.default_rng(0).permutation(MANY)[: MANY // 2])
    encode_matrix(open_expression(source), folder / "c.zarr", Binning("quantile"), half, Session(progress=Stages()))
    return source, half, contents(folder / "c.zarr")


@pytest.mark.cluster
@pytest.mark.parametrize("scheduler", ["threads", "local"])
def test_every_scheduler_writes_the_same_bytes(scheduler, many, stages, tmp_path):
    source, half, truth = many
    usage = Usage()
    with open_client(Compute(scheduler, workers=2)) as client:
        expression = open_expression(source)
        session = Session(client, stages, usage=usage, memory=2 * 10**9)
        encode_matrix(expression, tmp_path / "c.zarr", Binning("quantile"), half, session)
    assert {path.name for path in tmp_path.iterdir()} == {"c.zarr"}
    assert list(contents(tmp_path / "c.zarr").values()) == list(truth.values())
    blocks, cells = [len(sample_blocks(half.size))] * 2, [MANY // 2, MANY // 2]
    assert stages.seen == {"gene statistics": [MANY, MANY], "bin edges": blocks, "encoding cells": cells}
    assert usage.peak > 0


def foreign(kind, dense, path):
    """The matrix as others write it."""
    x = sparse.csr_matrix(dense)
    if kind == "wide, unsorted, explicit zeros":
        order = np.concatenate([np.arange(a, b)[::-1] for a, b in zip(x.indptr[:-1], x.indptr[1:], strict=True)])
        pointers = np.append(x.indptr[:-1], x.indptr[-1] + 1)  # one entry more at the end
        x = sparse.csr_matrix((np.append(x.data[order], 0.0), np.append(x.indices[order], 0), pointers), x.shape)
        x.data, x.indices, x.indptr = x.data.astype(float), x.indices.astype(np.int64), x.indptr.astype(np.int64)
    elif kind == "csc":
        x = x.tocsc()
    elif kind == "dense":
        x = dense
    names = {"obs": [f"c{i}" for i in range(len(dense))], "var": [f"G{i}" for i in range(dense.shape[1])]}
    AnnData(x, **{axis: pd.DataFrame(index=index) for axis, index in names.items()}).write_h5ad(path)
    return path


@pytest.mark.parametrize("kind", ["csr", "wide, unsorted, explicit zeros", "csc", "dense"])
def test_matrices_of_others_give_the_same_codes(kind, dense, expression_path, small_blocks, silent, tmp_path):
    dense = dense.copy()
    dense[149, 0] = 0  # where the explicit zero goes
    ours = store_expression(tmp_path / "e.zarr", dense)
    cells, made = np.arange(0, 150, 3), []
    for number, source in enumerate((ours, foreign(kind, dense, tmp_path / "m.h5ad"))):
        target = tmp_path / f"{number}.zarr"
        made.append(encode_matrix(open_expression(source), target, Binning("rank"), cells, Session()))
    assert made[0].content_hash == made[1].content_hash
    assert list(contents(tmp_path / "0.zarr" / "codes").values()) == list(
        contents(tmp_path / "1.zarr" / "codes").values()
    )
    np.testing.assert_array_equal(made[0].array("edges"), made[1].array("edges"))


def test_a_worker_without_the_memory_is_refused_before_anything_is_made(expression_path, silent, refuses, tmp_path):
    with refuses("encoding a block", "each worker has 0.1 GB", "--memory-limit"):
        encode_matrix(
            open_expression(expression_path), tmp_path / "c.zarr", Binning(), np.arange(150), Session(memory=10**8)
        )
    assert list(tmp_path.iterdir()) == []


def test_a_failed_run_leaves_the_old_codes_and_its_own_beginning(dense, silent, refuses, tmp_path, monkeypatch):
    source, target = store_expression(tmp_path / "e.zarr", dense), tmp_path / "c.zarr"
    encode_matrix(open_expression(source), target, Binning(), np.arange(150), Session())
    before = contents(target)
    monkeypatch.setattr(receipts, "write_file", lambda path, content: write_file(path, content[:-1]))
    with refuses("differs from what was written", kind=JobError):
        encode_matrix(open_expression(source), target, Binning("rank"), np.arange(150), Session())
    assert contents(target) == before
    assert {p.name for p in tmp_path.iterdir()} == {"c.zarr", ".c.zarr.wip", "e.zarr"}


@pytest.mark.parametrize("scheduler", ["synchronous", "threads"])
def test_a_bad_value_is_the_users_matter_on_any_scheduler(scheduler, dense, silent, refuses, tmp_path):
    """Found by a worker, yet told as bad input, and nothing is left behind."""
    bad = dense.copy()
    bad[77, 7] = -1
    source = foreign("csr", bad, tmp_path / "m.h5ad")
    with open_client(Compute(scheduler, workers=1)) as client, refuses("m.h5ad", "gene G7", "negative value -1"):
        encode_matrix(open_expression(source), tmp_path / "c.zarr", Binning(), np.arange(150), Session(client))
    assert {path.name for path in tmp_path.iterdir()} == {"m.h5ad"}


def test_a_matrix_that_changes_meanwhile_is_told(dense, silent, refuses, tmp_path, monkeypatch):
    source, real = store_expression(tmp_path / "e.zarr", dense), encode.add_edges

    def disturbed(*arguments):
        os.utime(source / "X" / "data" / "zarr.json", ns=(1, 1))
        real(*arguments)

    monkeypatch.setattr(encode, "add_edges", disturbed)
    with refuses("e.zarr changed while it was encoded", "run it again", kind=JobError):
        encode_matrix(open_expression(source), tmp_path / "c.zarr", Binning(), np.arange(150), Session())
    assert not (tmp_path / "c.zarr").exists()


@pytest.mark.parametrize("change", ["matrix", "genes", "cells", "binning"])
def test_other_codes_are_made_anew_and_read_anew(change, dense, silent, tmp_path):
    """Also in the same process, which has read the old ones: nothing of them may be left in a cache."""
    source, target, cells, binning = tmp_path / "e.zarr", tmp_path / "c.zarr", np.arange(150), Binning("max")
    expression = open_expression(store_expression(source, dense))
    old = encode_matrix(expression, target, binning, cells, Session())
    old.read(np.arange(46), slice(0, 100))
    old.array("edges")
    if change == "matrix":
        dense = simulated(seed=1)
    elif change == "genes":
        dense = np.ascontiguousarray(dense[:, :30])
    elif change == "cells":
        cells = np.arange(1, 150)
    else:
        binning = Binning("rank")
    expression = open_expression(store_expression(source, dense))
    new = encode_matrix(expression, target, binning, cells, Session())
    assert new.content_hash != old.content_hash
    edges = zarr.open_group(new.path, mode="r")["edges"][:]
    np.testing.assert_array_equal(new.array("edges"), edges)
    found = new.read(np.arange(dense.shape[1]), slice(0, 100))
    np.testing.assert_array_equal(found, expected_codes(dense[cells], edges)[:, :100])


def test_what_a_killed_run_left_is_replaced(expression_path, silent, tmp_path):
    target = tmp_path / "c.zarr"
    encode_matrix(open_expression(expression_path), target, Binning(), np.arange(150), Session())
    target.rename(tmp_path / ".c.zarr.wip")
    shutil.rmtree(tmp_path / ".c.zarr.wip" / "edges")
    encode_matrix(open_expression(expression_path), target, Binning(), np.arange(150), Session())
    assert [p.name for p in tmp_path.iterdir()] == ["c.zarr"]


@pytest.mark.parametrize(("field", "value"), [("format_version", 2), ("format", "other")])
def test_another_format_is_refused(field, value, expression_path, silent, refuses, tmp_path):
    target = tmp_path / "c.zarr"
    encode_matrix(open_expression(expression_path), target, Binning(), np.arange(150), Session())
    metadata = json.loads((target / "zarr.json").read_text())
    metadata["attributes"][field] = value
    (target / "zarr.json").write_text(json.dumps(metadata))
    with refuses("c.zarr", str(value), "pairscape-codes version 1"):
        open_codes(target)


def test_what_is_no_code_store_is_refused_and_left_alone(expression_path, silent, refuses, tmp_path):
    """A mistyped --codes may name the matrix itself."""
    target = Path(shutil.copytree(expression_path, tmp_path / "e.zarr"))
    before = made(target)
    with refuses("e.zarr", "not a Pairscape code store"):
        encode_matrix(open_expression(target), target, Binning(), np.arange(150), Session())
    assert made(target) == before
    with refuses("absent"):
        open_codes(tmp_path / "absent")


@given(st.integers(1, 60_000))
def test_blocks_cover_all_cells_in_order(n_cells):
    covered = [cell for block in cell_blocks(n_cells) for cell in (block.start, block.stop)]
    assert covered[0] == 0
    assert covered[-1] == n_cells
    assert covered[1:-1:2] == covered[2::2]


# ── a store is opened once a job ─────────────────────────────────────────────────────────────────────────────────────

READS = Counter[str]()


@lru_cache
def listen() -> None:
    """Count the files that this process reads; a hook cannot be taken away again."""

    def note(event, arguments):
        if event == "open" and isinstance(arguments[0], str) and not arguments[2] & os.O_ACCMODE:
            READS[arguments[0]] += 1

    sys.addaudithook(note)


def test_a_job_reads_the_metadata_of_its_codes_once_each(expression_path, tmp_path):
    """And once more in its worker, which is this process too: the root to see what lies there.

    Codes that are used again are compared with their record before, which reads each file once more.
    """
    listen()
    for target in ("first.zarr", "again.zarr"):
        module._array.cache_clear()
        READS.clear()
        run(expression_path, tmp_path / target, codes=tmp_path / "c.zarr")
        read = {str(Path(p).relative_to(tmp_path)): n for p, n in READS.items() if f"{tmp_path}/c.zarr/" in p}
        metadata = {name: times for name, times in read.items() if name.endswith("zarr.json")}
        compared = target == "again.zarr"
        assert metadata.pop("c.zarr/zarr.json") <= 2 + compared
        assert max(metadata.values()) == 1 + compared
