"""Direction of edges: by hand, and nothing is claimed where a network has no opinion or a class is missing."""

import numpy as np
import pytest

from pairscape.model.evaluation.metrics import direction_accuracy, direction_auroc, direction_scores, forward_share

LABEL = np.array([0, 0, 1, 1, 2, 2])
PROBABILITY = np.array([[8, 1, 1], [2, 5, 3], [1, 7, 2], [1, 4, 5], [1, 3, 6], [9, 0, 1]]) / 10


def test_direction_by_hand():
    found = direction_scores(LABEL, PROBABILITY, 0.5)
    assert found["n_edges"] == 4
    assert found["accuracy"] == 3 / 4  # the second edge a→b is taken for b→a
    assert found["accuracy_of_found"] == 2 / 3  # the last edge is not called
    assert found["confusion"] == [[1, 1, 0], [0, 1, 1], [1, 0, 1]]
    assert found["recall"] == [0.5, 0.5, 0.5]
    assert found["balanced_accuracy"] == 0.5
    assert found["auroc"] == 1.0  # 0.78, 0.44 of the edges a→b against 0.33, 0


def test_no_opinion_is_half_right():
    nothing = np.tile([0.98, 0.01, 0.01], (6, 1))
    assert direction_scores(LABEL, nothing, 0.0)["accuracy"] == 0.5
    np.testing.assert_array_equal(forward_share(np.array([[1.0, 0.0, 0.0]])), [0.5])
    assert direction_accuracy(LABEL, np.full(6, 0.5)) == direction_auroc(LABEL, np.full(6, 0.5)) == 0.5


@pytest.mark.parametrize(
    ("label", "defined"),
    [
        ([0, 0, 0], {"n_edges"}),
        ([0, 1, 1], {"n_edges", "accuracy", "accuracy_of_found"}),
        ([2, 1, 1], {"n_edges", "accuracy", "accuracy_of_found", "auroc"}),
    ],
    ids=["no edge", "one direction", "no other pair"],
)
def test_what_is_not_defined_is_none(label, defined):
    found = direction_scores(np.array(label), PROBABILITY[2:5], 0.5)
    assert {k for k, v in found.items() if v is not None} - {"recall", "confusion"} == defined
    assert [r is None for r in found["recall"]] == [c not in label for c in range(3)]
    assert np.sum(found["confusion"]) == 3


def test_a_mirror_image_points_the_other_way():
    swapped, classes = np.array([0, 2, 1])[LABEL], PROBABILITY[:, [0, 2, 1]]
    one, other = direction_scores(LABEL, PROBABILITY, 0.5), direction_scores(swapped, classes, 0.5)
    for key in ("accuracy", "accuracy_of_found", "auroc", "balanced_accuracy"):
        assert one[key] == other[key]
