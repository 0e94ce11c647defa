"""What training shifts is known and taken back exactly: the prior, class weights, focal loss; and how it is shown."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize
from sklearn.calibration import calibration_curve

from pairscape.model.evaluation.metrics import (
    calibration_record,
    calibration_scores,
    reliability_curve,
)
from pairscape.model.networks.prior import natural_probabilities
from reference import prior_corrected

SHARE = st.floats(0.01, 0.99)


@given(SHARE, SHARE, st.lists(st.floats(0.001, 0.999), min_size=1, max_size=20))
def test_two_classes_are_corrected_as_one_probability_is(shown, natural, positive):
    p = np.array(positive)
    found = natural_probabilities(np.stack([1 - p, p], axis=1), shown, natural)
    np.testing.assert_allclose(found[:, 1], prior_corrected(p, shown, natural), rtol=1e-9)


@pytest.mark.parametrize("weights", [None, (0.6, 3.0, 5.0)], ids=["plain", "weighted"])
def test_three_classes_are_taken_back_by_bayes(weights):
    """A network that has learned exactly what batches and weights teach believes likelihood × shown × weight."""
    rng = np.random.default_rng(0)
    likelihood = rng.gamma(1.0, 1.0, (50, 3))
    natural, shown = np.array([0.98, 0.012, 0.008]), np.array([0.8, 0.12, 0.08])  # as balance draws: edges keep shares
    weight = np.ones(3) if weights is None else np.array(weights)
    believed = likelihood * shown * weight
    truth = likelihood * natural
    found = natural_probabilities(believed / believed.sum(1, keepdims=True), 0.2, 0.02, weights)
    np.testing.assert_allclose(found, truth / truth.sum(1, keepdims=True), rtol=1e-9)


@pytest.mark.parametrize("truth", [(0.9, 0.1), (0.3, 0.7), (0.5, 0.3, 0.2), (0.97, 0.02, 0.01)])
@pytest.mark.parametrize("gamma", [1.0, 2.0])
def test_the_focal_loss_is_undone(truth, gamma):
    """Minimise the expected focal loss by brute force; from where it ends, the true probabilities come back."""
    truth = np.array(truth)

    def loss(logits):
        log_p = logits - np.logaddexp.reduce(logits)
        return -(truth * (1 - np.exp(log_p)) ** gamma * log_p).sum()

    ends = minimize(loss, np.zeros(truth.size), method="BFGS", options={"gtol": 1e-10}).x
    answered = np.exp(ends - np.logaddexp.reduce(ends))
    assert abs(answered - truth).max() > 0.005  # there is something to undo
    natural = truth[1:].sum()
    found = natural_probabilities(answered[None], natural, natural, gamma=gamma)
    np.testing.assert_allclose(found[0], truth, atol=1e-4)


@given(SHARE, SHARE, st.floats(0.2, 20), st.sampled_from([0.0, 2.0]))
def test_ranks_of_two_classes_are_kept(shown, natural, weight, gamma):
    p = np.linspace(0.001, 0.999, 400)
    found = natural_probabilities(np.stack([1 - p, p], axis=1), shown, natural, (1.0, weight), gamma)
    assert (np.diff(found[:, 1]) > 0).all()
    np.testing.assert_allclose(found.sum(axis=1), 1)


@pytest.mark.parametrize(("shown", "natural"), [(0.0, 0.1), (1.0, 0.1), (0.5, 0.0), (0.5, 1.0)])
def test_without_a_prior_nothing_is_corrected(shown, natural):
    p = np.array([[0.2, 0.8], [1.0, 0.0]])
    np.testing.assert_array_equal(natural_probabilities(p, shown, natural), p)


@pytest.mark.parametrize("balance", ["natural", "down or over"])
def test_corrected_scores_are_calibrated_whatever_was_shown(balance):
    """Pairs from a known truth, seen through the odds that balanced batches add."""
    rng = np.random.default_rng(0)
    truth = rng.beta(0.2, 6, 60_000)
    label = (rng.random(truth.size) < truth).astype(np.int8)
    natural = float(truth.mean())
    shown = natural if balance == "natural" else 0.5
    believed = prior_corrected(truth, natural, shown)
    corrected = natural_probabilities(np.stack([1 - believed, believed], axis=1), shown, natural)[:, 1]
    np.testing.assert_allclose(corrected, truth, atol=1e-9)
    record = calibration_record(label, believed, corrected)
    assert record["prior_corrected"]["ece"] < 0.004
    assert (record["as_trained"]["ece"] > 0.1) is (balance != "natural")
    assert calibration_scores(label, corrected).items() <= record["prior_corrected"].items()


def test_the_reliability_curve_is_scikit_learns():
    rng = np.random.default_rng(0)
    p = np.append(rng.beta(0.5, 4, 3_000), [0.0, 1.0])
    label = (rng.random(p.size) < p).astype(np.int8)
    found = reliability_curve(label, p)
    observed, predicted = calibration_curve(label, p, n_bins=10)
    np.testing.assert_allclose(found["observed"], observed)
    np.testing.assert_allclose(found["predicted"], predicted)
    assert sum(found["pairs"]) == p.size


def test_empty_bins_are_left_out_of_the_curve():
    found = reliability_curve(np.array([0, 1, 1]), np.array([0.05, 0.95, 1.0]))
    assert found == {"predicted": [0.05, 0.975], "observed": [0.0, 1.0], "pairs": [1, 2]}
