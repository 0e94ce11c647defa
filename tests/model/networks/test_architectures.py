"""Every architecture takes every picture it promises to, learns in all its parts, and is the one that was published."""

import numpy as np
import pytest
import torch
from torch import nn

from pairscape.model.networks.pairnet import GENE_LOADINGS, FactorNet
from pairscape.model.networks.published import IMAGES_PER_GENE, NETWORKS, DeepDrim, build_network
from pairscape.model.networks.render import Render
from pairscape.model.training.optimize import LOSSES, focal, make_loss
from pairscape.pipeline.errors import InputError

LARGE = [
    ("pairnet", 150),
    ("cnnc", 150),
    ("alexnet-10", 150),
    ("deepdrim", 150),
]  # the others' dense layers take seconds and gigabytes


def pictures(bins, n=2, seed=0, channels="log+residual"):
    """(n, C, bins, bins) rendered images of 500 random cells each."""
    rng = np.random.default_rng(seed)
    corner = rng.dirichlet(np.full(bins * bins, 0.05), n)
    counts = np.stack([rng.multinomial(500, p) for p in corner]).reshape(n, bins, bins)
    return Render(bins, channels=channels)(torch.from_numpy(counts))


def network(name, bins, classes=2, in_channels=2):
    torch.manual_seed(0)
    return build_network(name, in_channels=in_channels, bins=bins, classes=classes)


def answer(net, x):
    """Logits; to the neighbours' tower shifted copies of the image are as good as any, as loadings any numbers."""
    if isinstance(net, FactorNet):
        return net(x, torch.randn(len(x), 2, GENE_LOADINGS, generator=torch.Generator().manual_seed(0)))
    if not isinstance(net, DeepDrim):
        return net(x)
    around = torch.stack([x.roll(k, -1) for k in range(IMAGES_PER_GENE)], 1)
    return net(x, torch.stack([net.describe(around), net.describe(around.mT)], 1))


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize(("name", "bins"), [(name, bins) for name in NETWORKS for bins in (16, 32, 33, 64)] + LARGE)
def test_every_network_takes_every_size(name, bins, classes):
    net = network(name, bins, classes).eval()
    with torch.inference_mode():
        logits = answer(net, pictures(bins))
    assert logits.shape == (2, classes)
    assert logits.isfinite().all()


@pytest.mark.parametrize("bins", [16, 32])
@pytest.mark.parametrize("channels", ["log", "log+residual"])
@pytest.mark.parametrize("name", NETWORKS)
def test_gradients_reach_every_parameter(name, channels, bins):
    x = pictures(bins, n=4, channels=channels)
    net = network(name, bins, 3, in_channels=x.shape[1]).eval()  # no dropout; norms that do not cancel biases
    with torch.no_grad():
        for (
            parameter
        ) in net.parameters():  # what starts at zero, so that it starts harmless, blocks gradients for one step
            parameter.add_(0.01 * torch.randn_like(parameter))
    (answer(net, x) * torch.randn(4, 3)).sum().backward()
    unreached = [key for key, p in net.named_parameters() if p.grad is None or not p.grad.any()]
    assert not unreached
    assert all(p.grad.isfinite().all() for p in net.parameters())


@pytest.mark.parametrize("name", NETWORKS)
def test_a_step_in_training_mode_changes_every_parameter_that_may(name):
    net, x = network(name, 16).train(), pictures(16, n=8)
    before = {key: p.detach().clone() for key, p in net.named_parameters()}
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3)
    for _ in range(2):
        optimizer.zero_grad()
        nn.functional.cross_entropy(answer(net, x), torch.tensor([0, 1] * 4)).backward()
        optimizer.step()
    changed = sum(not torch.equal(p, before[key]) for key, p in net.named_parameters())
    assert changed == len(before)


@pytest.mark.parametrize("name", NETWORKS)
def test_first_weights_follow_from_the_seed(name):
    first, again = network(name, 16).state_dict(), network(name, 16).state_dict()
    assert all(torch.equal(first[key], again[key]) for key in first)


@pytest.mark.parametrize("name", NETWORKS)
def test_an_image_is_judged_by_itself(name):
    """At prediction no image's score may depend on its neighbours in the batch."""
    net, x = network(name, 16).eval(), pictures(16, n=3)
    with torch.inference_mode():
        torch.testing.assert_close(answer(net, x)[:1], answer(net, x[:1]), rtol=1e-4, atol=1e-5)


PUBLISHED = {  # (out_channels, kernel) of each convolution, the widths of the dense layers, the rates of dropout
    "deep-cell-1": ([(32, 3), (64, 3)], [128], [0.25, 0.5]),
    "deep-cell-2": ([(16, 3), (32, 3), (64, 9), (128, 17)], [128], [0.25, 0.5]),
    "deep-cell-3": ([(32, 3), (32, 3), (64, 3), (64, 3), (128, 3), (128, 3)], [512], [0.25, 0.25, 0.25, 0.5]),
    "deepdrim": (
        [(32, 3), (32, 3), (64, 3), (64, 3), (128, 3), (128, 3)] * 2,
        [512, 512, 512, 128],
        [0.25] * 6 + [0.5] * 3,
    ),
    "cnnc": ([(32, 3), (32, 3), (64, 3), (64, 3), (128, 3), (128, 3)], [512], [0.5, 0.5, 0.5, 0.5]),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_networks_are_built_as_published(name):
    modules = list(network(name, 32, in_channels=1).modules())
    convolutions = [(m.out_channels, m.kernel_size[0]) for m in modules if isinstance(m, nn.Conv2d)]
    dense = [m.out_features for m in modules if isinstance(m, nn.Linear)]
    dropout = [m.p for m in modules if isinstance(m, nn.Dropout)]
    assert (convolutions, dense[:-1], dropout) == PUBLISHED[name]
    assert not any("Norm" in type(m).__name__ for m in modules)


def test_alexnet_has_ten_convolutions_and_its_second_form_more_dropout():
    plain, deep = (list(network(name, 32).modules()) for name in ("alexnet-10", "alexnet-10-dropout"))
    for modules in (plain, deep):
        assert sum(isinstance(m, nn.Conv2d) for m in modules) == 10
    assert sum(isinstance(m, nn.Linear) for m in plain) == 2
    assert sum(isinstance(m, nn.Dropout) for m in plain) == 0
    assert sum(isinstance(m, nn.Dropout) for m in deep) >= 4


def test_unknown_networks_and_sizes_are_refused():
    with pytest.raises(InputError, match=r"'resnet' is unknown.*pairnet"):
        build_network("resnet", in_channels=1, bins=32)
    for bins in (15, 151):
        with pytest.raises(InputError, match=f"{bins} bins.*16 to 150"):
            build_network("pairnet", in_channels=1, bins=bins)


# ---------------------------------------------------------------- losses

LOGITS = torch.tensor([[2.0, -1.0], [0.3, 0.1], [-4.0, 4.0]])
LABELS = torch.tensor([0, 1, 0])


def log_p_of_truth():
    exponential = np.exp(LOGITS.numpy())
    return np.log(exponential / exponential.sum(1, keepdims=True))[np.arange(3), LABELS.numpy()]


def test_losses_by_hand():
    log_p = log_p_of_truth()
    weight = np.array([1.0, 3.0])[LABELS.numpy()]
    by_hand = {
        "cross-entropy": -log_p.mean(),
        "weighted": -(weight * log_p).mean(),
        "focal": -((1 - np.exp(log_p)) ** 2 * log_p).mean(),
    }
    assert set(by_hand) == set(LOSSES)
    for name, value in by_hand.items():
        loss = make_loss(name, classes=2, weight=(1.0, 3.0))
        assert float(loss(LOGITS, LABELS)) == pytest.approx(value, rel=1e-5)
        assert float(loss(LOGITS, LABELS.to(torch.int8))) == pytest.approx(value, rel=1e-5)


@pytest.mark.parametrize("weight", [(1.0, 1.0), (0.5, 4.0), (2.0, 0.0)])
def test_the_weighted_loss_is_its_formula(weight):
    """The mean of -(w+ y log p + w- (1 - y) log(1 - p)), p being the sigmoid of what the positive logit is ahead by."""
    negative, positive = weight
    y, p = LABELS.numpy(), 1 / (1 + np.exp(-(LOGITS[:, 1] - LOGITS[:, 0]).numpy()))
    formula = -(positive * y * np.log(p) + negative * (1 - y) * np.log(1 - p)).mean()
    assert float(make_loss("weighted", classes=2, weight=weight)(LOGITS, LABELS)) == pytest.approx(formula, rel=1e-5)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0, 5.0])
def test_the_focal_loss_is_its_formula(gamma):
    log_p = log_p_of_truth()
    found = make_loss("focal", classes=2, gamma=gamma)(LOGITS, LABELS)
    assert float(found) == pytest.approx(-((1 - np.exp(log_p)) ** gamma * log_p).mean(), rel=1e-5)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0])
def test_an_answer_that_is_certain_and_right_has_a_slope_all_the_same(gamma):
    logits = torch.tensor([[200.0, -200.0], [-200.0, 200.0]], requires_grad=True)
    focal(logits, torch.tensor([0, 1]), gamma).backward()
    assert logits.grad.isfinite().all()


def test_a_weight_counts_also_where_a_batch_has_one_class():
    single = make_loss("weighted", classes=2, weight=(1.0, 5.0))(LOGITS[1:2], LABELS[1:2])
    assert float(single) == pytest.approx(-5 * log_p_of_truth()[1], rel=1e-5)


@pytest.mark.parametrize("weight", [None, (1.0,), (1.0, 2.0, 3.0), (1.0, -1.0), (1.0, float("nan"))])
def test_weights_that_do_not_fit_are_refused(weight):
    with pytest.raises(InputError, match="class weights"):
        make_loss("weighted", classes=2, weight=weight)


def test_unknown_losses_are_refused():
    with pytest.raises(InputError, match=r"'hinge' is unknown.*focal"):
        make_loss("hinge", classes=2)
