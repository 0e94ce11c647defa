"""Every figure against scikit-learn or by hand; nothing is invented where a class is missing."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sklearn.metrics import (
    average_precision_score,
    balanced_accuracy_score,
    brier_score_loss,
    confusion_matrix,
    log_loss,
    matthews_corrcoef,
    roc_auc_score,
)

from pairscape.model.evaluation.metrics import (
    all_scores,
    auroc,
    average_precision,
    average_precision_ratio,
    balanced_accuracy,
    best_threshold,
    calibration_scores,
    confusion,
    early_precision_ratio,
    expected_calibration_error,
    operating_point,
    precision_at,
    precision_threshold,
    ranking_scores,
    watch_collapse,
)
from reference import prior_corrected

BY_HAND = ("precision_at_10", "precision_at_100", "precision_at_1000", "early_precision_ratio", "ece")


def some_rows(n=4_000, seed=0):
    """Labels of three classes, 5 % positive, and probabilities that know something of them, with ties."""
    rng = np.random.default_rng(seed)
    label = rng.choice(np.array([0, 1, 2], np.int8), n, p=[0.95, 0.03, 0.02])
    probability = 1 / (1 + np.exp(-(rng.normal(-3, 1, n) + 2.5 * (label > 0))))
    return label, probability.round(3)


@st.composite
def scored_rows(draw):
    """A few rows of both classes; scores with ties, and such as differ by one last bit."""
    fine = st.sampled_from([0.0, 5e-324, 0.1, np.nextafter(0.1, 1), 0.5, np.nextafter(1, 0), 1.0])
    scores = draw(st.lists(fine | st.floats(0, 1), min_size=2, max_size=12))
    label = draw(st.lists(st.integers(0, 2), min_size=len(scores), max_size=len(scores)))
    assume(min(label) == 0 < max(label))
    return np.array(label, np.int8), np.array(scores, draw(st.sampled_from([np.float64, np.float32])))


def test_figures_are_scikit_learns():
    label, probability = some_rows()
    truth, called = label > 0, probability >= 0.2
    found = all_scores(label, probability, 0.2)
    assert found == pytest.approx(
        {
            "balanced_accuracy": balanced_accuracy_score(truth, called),
            "auroc": roc_auc_score(truth, probability),
            "average_precision": average_precision_score(truth, probability),
            "mcc": matthews_corrcoef(truth, called),
            "brier": brier_score_loss(truth, probability),
            "log_loss": log_loss(truth, probability),
            "brier_skill": 1 - brier_score_loss(truth, probability) / truth.mean() / (1 - truth.mean()),
            "average_precision_ratio": average_precision_score(truth, probability) / truth.mean(),
            **{name: found[name] for name in BY_HAND},
        },
        rel=1e-12,
    )
    assert confusion(label, probability, 0.2) == confusion_matrix(truth, called).tolist()
    assert ranking_scores(label, probability, 0.2).items() <= found.items()


def test_confusion_and_balanced_accuracy_by_hand():
    label, score = np.array([0, 0, 0, 0, 1, 2]), np.array([0.1, 0.2, 0.7, 0.3, 0.7, 0.4])
    assert confusion(label, score, 0.7) == [[3, 1], [1, 1]]  # a score on the threshold is called positive
    assert balanced_accuracy(label, score, 0.7) == (3 / 4 + 1 / 2) / 2


def test_precision_at_k_by_hand():
    label, score = np.array([1, 0, 1, 0, 1]), np.array([0.9, 0.8, 0.7, 0.6, 0.5])
    assert [precision_at(label, score, k) for k in (1, 2, 3, 5)] == [1, 1 / 2, 2 / 3, 3 / 5]
    assert precision_at(label, score, 6) is precision_at(label, score, 0) is None


def test_ties_across_the_last_place_count_by_expectation():
    label, score = np.array([1, 0, 1, 0, 0, 0]), np.array([0.9, 0.5, 0.5, 0.5, 0.5, 0.1])
    # one of four tied rows is positive and one place is free: a quarter of a positive
    assert precision_at(label, score, 2) == pytest.approx((1 + 1 / 4) / 2)
    rng = np.random.default_rng(0)
    drawn = [label[np.lexsort((rng.random(6), -score))[:3]].mean() for _ in range(4_000)]
    assert precision_at(label, score, 3) == pytest.approx(np.mean(drawn), abs=0.01)


def test_the_early_precision_ratio_is_precision_at_the_number_of_positives_over_the_prevalence():
    label, score = np.array([1, 0, 1, 0, 0, 1, 0, 0, 0, 0]), np.linspace(1, 0.1, 10)
    assert early_precision_ratio(label, score) == pytest.approx((2 / 3) / 0.3)
    assert early_precision_ratio(label, label.astype(float)) == pytest.approx(1 / 0.3)  # perfect
    assert early_precision_ratio(label, np.ones(10)) == pytest.approx(1)  # knows nothing: chance, not better
    assert average_precision_ratio(label, np.ones(10)) == pytest.approx(1)


def test_a_threshold_for_a_precision_is_the_lowest_that_reaches_it():
    label, score = np.array([1, 0, 1, 1, 0, 0]), np.array([0.9, 0.8, 0.7, 0.6, 0.5, 0.4])
    assert precision_threshold(label, score, 0.75) == 0.6
    assert precision_threshold(label, score, 0.5) == 0.4
    assert precision_threshold(label, score, 0.9) == 0.9
    assert precision_threshold(1 - label, score, 0.9) is None
    assert operating_point(label, score, 0.6) == {"threshold": 0.6, "called": 4, "precision": 0.75, "recall": 1.0}
    assert operating_point(label, score, 2.0)["precision"] is None
    assert operating_point(label, score, None) == dict.fromkeys(("threshold", "called", "precision", "recall"))


@settings(max_examples=200, deadline=None)
@given(scored_rows(), st.floats(0.05, 1))
def test_no_lower_threshold_has_the_precision(rows, wanted):
    label, score = rows
    reached = {t: operating_point(label, score, t)["precision"] >= wanted for t in np.unique(score).tolist()}
    lowest = min((t for t, good in reached.items() if good), default=None)
    assert precision_threshold(label, score, wanted) == lowest


def test_calibration_figures_of_a_constant_answer():
    label = np.repeat([0, 1], [990, 10])
    found = calibration_scores(label, np.full(1_000, 0.01))
    assert found["brier_skill"] == pytest.approx(0, abs=1e-12)
    assert found["brier"] == pytest.approx(0.01 * 0.99)
    assert found["log_loss"] == pytest.approx(-0.01 * np.log(0.01) - 0.99 * np.log(0.99))


def test_calibration_error_by_hand():
    probability, label = np.linspace(0.1, 0.8, 15), np.arange(15) % 2
    # 15 rows in 15 groups: each row is its own
    assert expected_calibration_error(label, probability) == pytest.approx(np.abs(label - probability).mean())
    shuffle = np.random.default_rng(0).permutation(3_000)
    many = np.repeat(label, 200)[shuffle], np.repeat(probability, 200)[shuffle]
    assert expected_calibration_error(*many) == pytest.approx(np.abs(label - probability).mean())
    four = np.array([0, 0, 1, 1]), np.array([0.0, 0.5, 0.5, 1.0])  # fewer rows than groups
    assert expected_calibration_error(*four) == pytest.approx((0 + 0.5 + 0.5 + 0) / 4)


def test_a_calibrated_score_has_hardly_any_calibration_error_and_a_shifted_one_its_shift():
    rng = np.random.default_rng(0)
    probability = rng.beta(0.5, 4, 60_000)
    label = rng.random(60_000) < probability
    assert expected_calibration_error(label, probability) < 0.01
    assert expected_calibration_error(label, probability * 0.5) == pytest.approx(probability.mean() / 2, abs=0.01)


@pytest.mark.parametrize("label", [np.zeros(5, np.int8), np.full(5, 2, np.int8)])
def test_what_needs_both_classes_is_none_without_them(label):
    score = np.linspace(0, 1, 5)
    found = all_scores(label, score, 0.5)
    defined = {"ece"}
    assert {name for name, value in found.items() if value is not None} == defined
    assert auroc(label, score) is average_precision(label, score) is balanced_accuracy(label, score, 0.5) is None
    assert best_threshold(label, score) == 0.5
    assert not watch_collapse(label, score, 0.5).collapsed


# ---------------------------------------------------------------- prior


@settings(deadline=None)
@given(st.floats(0.01, 0.99), st.floats(0.01, 0.99), st.lists(st.floats(0.001, 0.999), min_size=1, max_size=20))
def test_a_known_shift_of_the_prior_is_taken_back(shown, natural, posterior):
    """Bayes: with the same likelihood ratio, the posterior at another prior."""
    posterior = np.array(posterior)
    likelihood_ratio = posterior / (1 - posterior) * (1 - natural) / natural
    as_shown = shown * likelihood_ratio / (shown * likelihood_ratio + 1 - shown)
    np.testing.assert_allclose(prior_corrected(as_shown, shown, natural), posterior, rtol=1e-6)
    np.testing.assert_allclose(prior_corrected(posterior, natural, natural), posterior, rtol=1e-9)


def test_an_uninformed_network_predicts_the_prevalence():
    np.testing.assert_allclose(prior_corrected(np.full(3, 1 / 6), 1 / 6, 0.013), 0.013)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_correction_keeps_the_order_and_stays_within_0_and_1(dtype):
    probability = np.linspace(0, 1, 1_001).astype(dtype)
    corrected = prior_corrected(probability, 0.17, 0.002)
    assert corrected.dtype == np.float64
    assert (np.diff(corrected) > 0).all()
    assert corrected.min() >= 0
    assert corrected.max() <= 1


@pytest.mark.parametrize(("shown", "natural"), [(0.0, 0.1), (1.0, 0.1), (0.5, 0.0), (0.5, 1.0)])
def test_without_a_prior_nothing_is_corrected(shown, natural):
    probability = np.array([0.0, 0.3, 1.0])
    np.testing.assert_array_equal(prior_corrected(probability, shown, natural), probability)


# ---------------------------------------------------------------- threshold


@settings(max_examples=300, deadline=None)
@given(scored_rows())
def test_no_threshold_is_better_than_the_best(rows):
    label, score = rows
    candidates = [*np.unique(score), np.inf]
    best = max(balanced_accuracy(label, score, t) for t in candidates)
    assert balanced_accuracy(label, score, best_threshold(label, score)) == pytest.approx(best, abs=1e-12)


def test_the_threshold_lies_in_the_middle_of_the_gap():
    label, score = np.array([0, 1, 0, 1]), np.array([0.1, 0.8, 0.2, 0.6])
    assert best_threshold(label, score) == pytest.approx(0.4)


# ---------------------------------------------------------------- collapse

CONSTANT = {
    "exactly": np.full(4_000, 0.05),
    "nearly": 0.05 + 1e-6 * np.random.default_rng(0).normal(size=4_000),
    "all negative but one row": np.where(np.arange(4_000) == 7, 0.9, 0.05),
    "all positive": np.full(4_000, 0.999),
}


@pytest.mark.parametrize("kind", CONSTANT)
def test_the_watch_fires_on_one_answer(kind):
    label, probability = some_rows()[0], CONSTANT[kind]
    watch = watch_collapse(label, probability, best_threshold(label, np.full(4_000, 0.05)))
    assert watch.collapsed
    assert "nearly constant" in watch.reason
    assert watch_collapse(label, probability, 0.5).collapsed


def test_the_watch_is_quiet_on_informative_predictions():
    label, probability = some_rows()
    for threshold in (best_threshold(label, probability), 0.2):
        watch = watch_collapse(label, probability, threshold)
        assert (watch.collapsed, watch.reason) == (False, "")
    # informative at its threshold, though no pair reaches 0.5, as rare positives hardly do
    assert not watch_collapse(label, probability / 10, best_threshold(label, probability / 10)).collapsed


def test_the_watch_is_quiet_on_a_network_that_is_wrong_in_many_ways():
    """Scores at random are bad, but no collapse: the network answers both classes."""
    label, probability = some_rows()[0], np.random.default_rng(1).random(4_000)
    assert not watch_collapse(label, probability, 0.5).collapsed


def test_the_watch_fires_on_one_answer_that_is_worse_than_chance():
    """A threshold placed among scores that hardly differ may do worse than chance: no sign of having learned."""
    label = some_rows()[0]
    probability = 0.06 + 0.001 * np.random.default_rng(9).random(4_000) - 0.0002 * (label > 0)
    assert balanced_accuracy(label, probability, 0.0605) < 0.45
    assert watch_collapse(label, probability, 0.0605).collapsed


@pytest.mark.parametrize("label", [np.array([0, 1, 0, 1]), np.zeros(4)], ids=["both classes", "one class"])
def test_the_watch_reports_scores_that_are_not_finite(label):
    watch = watch_collapse(label, np.array([0.1, np.nan, 0.2, 0.3]), 0.5)
    assert watch.collapsed
    assert watch.reason == "scores are not finite"
