"""The shift guard: a sample of candidates, and where it differs random pairs of their matrix, beside the training's.

Candidates may differ because their matrix does, or because they are a choice of its pairs: the positives, one gene with
all others. Random pairs of both matrices tell these apart, whatever the training's own candidates were.
"""

from collections.abc import Callable, Mapping
from typing import Any

from pairscape.model.evaluation.measure import measure
from pairscape.model.evaluation.observed import Observed, Reference
from pairscape.model.evaluation.sample import CountedPairs
from pairscape.model.evaluation.shift import Shift, compare
from pairscape.model.networks.classifier import PairClassifier
from pairscape.model.networks.prior import Taught


def find_shift(
    reference: Reference,
    classifier: PairClassifier,
    facts: Mapping[str, Any],
    sample: CountedPairs,
    at_random: Callable[[], CountedPairs | None],
    prior: float,
) -> Shift:
    """How far new pairs are from those of a training.

    Parameters
    ----------
    facts
        Of the classifier, as `model.networks.facts.complete_facts` gives them.
    sample
        Of the candidates.
    at_random
        Makes random pairs of their matrix, or None where its codes are gone; asked only where candidates differ.
    prior
        Share of edges among the candidates that their scores suppose.
    """

    def observed(pairs: CountedPairs) -> Observed:
        return measure(classifier, Taught.recorded(facts), facts["natural"], pairs)

    here = observed(sample)
    found = compare(reference, here, prior)
    if found.candidates.level == "like" or reference.random is None or (pairs := at_random()) is None:
        return found
    return compare(reference, here, prior, observed(pairs))
