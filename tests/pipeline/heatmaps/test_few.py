"""Pairs counted without the compiled kernels: the same counts, and no zeros for what is lost."""

import shutil

import numpy as np
import pytest

from pairscape.pipeline.codes.encode import encode_matrix
from pairscape.pipeline.codes.store import open_codes
from pairscape.pipeline.compute.session import Session
from pairscape.pipeline.errors import JobError
from pairscape.pipeline.heatmaps import few
from pairscape.pipeline.heatmaps.few import count_few
from pairscape.pipeline.matrix.cell_groups import NO_GROUP
from pairscape.pipeline.matrix.expression import open_expression
from pairscape.pipeline.options import Binning
from pairscape.pipeline.storage.digests import RECORD, SPARE
from reference import joint_counts

GENES_A, GENES_B = np.array([0, 7, 7, 40, 3]), np.array([7, 0, 33, 12, 3])  # both orders, and a gene with itself


@pytest.fixture(scope="module", params=["rank", "max"])
def codes(request, expression_path, tmp_path_factory):
    """150 cells × 46 genes in 8 bins."""
    path, matrix = tmp_path_factory.mktemp("codes") / "c.zarr", open_expression(expression_path)
    return encode_matrix(matrix, path, Binning(request.param, 8), np.arange(matrix.n_cells), Session())


@pytest.mark.parametrize("at_once", [64, 4096])
def test_counts_are_those_of_histogram2d(codes, dense, at_once, monkeypatch):
    monkeypatch.setattr(few, "cell_blocks", lambda n: [slice(i, min(i + at_once, n)) for i in range(0, n, at_once)])
    expected = joint_counts(dense, codes.array("edges"), GENES_A, GENES_B)
    np.testing.assert_array_equal(count_few(codes, GENES_A, GENES_B), expected[None])


@pytest.mark.parametrize("at_once", [64, 4096])
def test_groups_are_counted_apart_and_cells_of_none_nowhere(codes, dense, at_once, monkeypatch):
    monkeypatch.setattr(few, "cell_blocks", lambda n: [slice(i, min(i + at_once, n)) for i in range(0, n, at_once)])
    group = np.random.default_rng(0).choice(np.array([0, 1, NO_GROUP], np.uint16), len(dense))
    expected = [joint_counts(dense[group == own], codes.array("edges"), GENES_A, GENES_B) for own in (0, 1)]
    np.testing.assert_array_equal(count_few(codes, GENES_A, GENES_B, group, 2), expected)


def test_no_pair_has_no_picture(codes):
    assert count_few(codes, np.empty(0, np.int64), np.empty(0, np.int64)).shape == (1, 0, 8, 8)


def test_lost_codes_of_an_earlier_version_are_no_zeros(codes, tmp_path):
    """Whose files nothing described."""
    old = tmp_path / "old.zarr"
    shutil.copytree(codes.path, old)
    (old / RECORD).unlink(missing_ok=True)
    shutil.rmtree(old / SPARE, ignore_errors=True)
    (old / "codes" / "c" / "0" / "0").unlink()
    with pytest.raises(JobError, match="codes are lost"):
        count_few(open_codes(old), GENES_A, GENES_B)
