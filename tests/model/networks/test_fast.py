"""What is made ready for predictions says what the classifier says, whoever asks, in whatever company."""

import numpy as np
import pytest
import torch

from model_fixtures import small_store
from pairscape.model.networks.classifier import PairClassifier, score_rows
from pairscape.model.networks.fast import Scorer, prepare
from pairscape.model.networks.prior import PriorCorrection
from pairscape.model.networks.published import NETWORKS, usual_rendering
from pairscape.model.networks.render import CHANNELS, Render
from pairscape.model.options import Rendering

CPU = torch.device("cpu")
RENDERINGS = [Rendering(name) for name in CHANNELS if name != "counts"] + [
    Rendering("counts", drop_both_zero=True),
    Rendering(pool=2),
    Rendering(sigma=1.3),
    Rendering("log", pool=2, sigma=0.7, drop_both_zero=True),
]


def classifier_of(network, rendering=None, bins=32, classes=2, mirror=True, seed=0):
    """Untrained, but with the statistics of a trained one, and as sure: its logits spread by about 1."""
    torch.manual_seed(seed)
    rendering = rendering or usual_rendering(network)
    made = PairClassifier(network, rendering, bins, classes, mirror)
    for layer in made.modules():
        if isinstance(layer, torch.nn.Conv2d | torch.nn.Linear):
            torch.nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        if isinstance(layer, torch.nn.modules.batchnorm._BatchNorm):
            torch.nn.init.uniform_(layer.weight, 0.5, 2)
            torch.nn.init.normal_(layer.bias)
            torch.nn.init.normal_(layer.running_mean)
            torch.nn.init.uniform_(layer.running_var, 0.5, 2)
    made.eval().requires_grad_(False)
    if not made.knows_genes:
        last = [layer for layer in made.modules() if isinstance(layer, torch.nn.Linear)][-1]
        last.weight /= made(*some_pairs(16, bins)).std(0).max()
        last.bias -= made(*some_pairs(16, bins)).mean(0)
    return made


def some_pairs(n, bins=32, seed=0):
    """Counts and both zeros of pairs from independent to the same gene twice, 600 cells each."""
    rng = np.random.default_rng(seed)
    rho = np.linspace(0, 1, n)[:, None]
    a, noise = rng.normal(size=(2, n, 600))
    b = rho * a + np.sqrt(1 - rho**2) * noise
    code_a, code_b = (np.clip((gene + 0.5) * bins / 3, 0, bins - 1).astype(int) for gene in (a, b))
    counts = np.zeros((n, bins, bins), np.int32)
    np.add.at(counts, (np.arange(n)[:, None], code_b, code_a), 1)
    return torch.from_numpy(counts), torch.from_numpy(counts[:, 0, 0] // 2)


def assert_same_probabilities(classifier, n=5, bins=32):
    counts, both_zero = some_pairs(n, bins)
    with torch.inference_mode():
        wanted = classifier.probabilities(counts, both_zero)
    found = prepare(classifier, CPU)(counts, both_zero)
    assert found.shape == (n, classifier.classes)
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-5)
    assert wanted.std(0).max() > 0.01  # the pairs do differ


@pytest.fixture(autouse=True)
def small_batches(monkeypatch):
    monkeypatch.setattr("pairscape.model.networks.fast.AT_ONCE", 4)
    monkeypatch.setattr("pairscape.model.networks.fast.AT_ONCE_PAIRNET", 4)


@pytest.mark.parametrize(("classes", "mirror"), [(2, True), (3, True), (3, False)])
@pytest.mark.parametrize("network", [name for name in NETWORKS if name not in ("deepdrim", "pairnet-factors")])
def test_every_network_says_what_it_says(network, classes, mirror):
    assert_same_probabilities(classifier_of(network, classes=classes, mirror=mirror))


@pytest.mark.parametrize("rendering", RENDERINGS, ids=str)
@pytest.mark.parametrize("network", ["pairnet", "cnnc"])
def test_however_the_counts_are_drawn(network, rendering):
    assert_same_probabilities(classifier_of(network, rendering, classes=3))


@pytest.mark.parametrize("bins", [16, 33, 64])
@pytest.mark.parametrize("network", ["pairnet", "cnnc", "alexnet-10"])
def test_whatever_the_number_of_bins(network, bins):
    assert_same_probabilities(classifier_of(network, bins=bins), bins=bins)


@pytest.mark.parametrize("network", ["pairnet", "cnnc", "deep-cell-1"])
def test_the_same_pairs_in_the_same_order_score_the_same_to_the_bit(network):
    ready, pairs = prepare(classifier_of(network), CPU), some_pairs(11)
    assert torch.equal(ready(*pairs), ready(*pairs))


@pytest.mark.parametrize("network", ["pairnet", "cnnc", "deep-cell-1"])
def test_a_score_depends_on_no_other_pair(network):
    """But for rounding: some BLAS libraries round a row by its place in the matrix, on some processors."""
    ready = prepare(classifier_of(network), CPU)
    counts, both_zero = some_pairs(11)
    together, order = ready(counts, both_zero), torch.randperm(11)
    alone = torch.cat([ready(counts[i : i + 1], both_zero[i : i + 1]) for i in range(11)])
    for again in (ready(counts[order], both_zero[order])[order.argsort()], alone):
        torch.testing.assert_close(again, together, rtol=0, atol=1e-6)


def test_it_is_a_copy():
    classifier = classifier_of("pairnet")
    before = {name: value.clone() for name, value in classifier.state_dict().items()}
    ready, pairs = prepare(classifier, CPU), some_pairs(3)
    said = ready(*pairs)
    assert all(torch.equal(value, before[name]) for name, value in classifier.state_dict().items())
    for parameter in classifier.parameters():
        torch.nn.init.zeros_(parameter)
    assert torch.equal(ready(*pairs), said)


def test_what_is_not_for_it_takes_the_ordinary_way():
    deepdrim, factors, pairnet = (classifier_of(name) for name in ("deepdrim", "pairnet-factors", "pairnet"))
    assert prepare(deepdrim, CPU) == deepdrim.probabilities
    assert prepare(factors, CPU) == factors.probabilities
    assert prepare(pairnet, torch.device("meta")) == pairnet.probabilities


@pytest.mark.parametrize("network", ["pairnet", "cnnc"])
def test_a_network_that_blew_up_is_no_number(network):
    classifier = classifier_of(network)
    next(p for p in classifier.parameters() if p.dim() == 4)[:] = np.nan
    assert prepare(classifier, CPU)(*some_pairs(2)).isnan().all()


@pytest.mark.parametrize("rendering", RENDERINGS, ids=str)
def test_drawing_commutes_with_transposition(rendering):
    counts, both_zero = some_pairs(6, seed=3)
    render = Render(32, **vars(rendering))
    turned = render(counts.mT, both_zero)
    torch.testing.assert_close(turned, render(counts, both_zero).mT, rtol=1e-5, atol=1e-5 * float(turned.abs().max()))


def test_the_scorer_scores_at_the_prior_of_the_data():
    classifier, (counts, both_zero) = classifier_of("cnnc"), some_pairs(7)
    scorer = Scorer(classifier, CPU, PriorCorrection(0.25), 0.01)
    wanted = PriorCorrection(0.25).corrected(classifier.probabilities(counts, both_zero).numpy(), 0.01)
    np.testing.assert_allclose(scorer(counts.numpy().astype(np.uint32), both_zero.numpy()), wanted, atol=1e-5)


@pytest.mark.parametrize("network", ["pairnet", "cnnc", "deepdrim", "pairnet-factors"])
def test_rows_of_a_store_score_the_same(network, tmp_path_factory):
    images = small_store(tmp_path_factory.getbasetemp())
    classifier = classifier_of(network, bins=images.spec.binning.bins)
    rows, seen = np.arange(0, 66, 2), []
    wanted = score_rows(classifier, images, rows, seen.append)
    found = score_rows(classifier, images, rows, seen.append, prepare(classifier, CPU))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5)
    assert sum(seen) == 2 * rows.size
