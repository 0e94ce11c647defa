"""The space of recipes that `tune` searches: rendering, network, learning rate, loss and balance."""

from dataclasses import replace
from typing import Any

from optuna.trial import BaseTrial

from pairscape.model.networks.published import SMALLEST
from pairscape.model.options import Recipe, Search

CHANNELS = ("log", "residual", "log+residual")
MOST_SIGMA = 2.0  # bins; wider, and a heatmap of 32 bins is a blot, as the original's were
RATES = (1e-4, 1e-2)
RATIOS = (1.0, 20.0)


def propose(trial: BaseTrial, base: Recipe, search: Search, bins: int) -> Recipe:
    """A recipe of the space, as the trial has it.

    Parameters
    ----------
    base
        What is not searched, and a point of the space itself.
    bins
        Of the stored images; they are pooled no further than a network can see.
    """
    shown, trained = base.rendering, base.training
    rendering = replace(
        shown,
        channels=trial.suggest_categorical("channels", _with(shown.channels, CHANNELS)),
        pool=trial.suggest_categorical("pool", _with(shown.pool, _pools(bins))),
        sigma=trial.suggest_float("sigma", 0.0, max(MOST_SIGMA, shown.sigma)),
    )
    training = replace(
        trained,
        network=trial.suggest_categorical("network", _with(trained.network, search.networks)),
        loss=trial.suggest_categorical("loss", _with(trained.loss, search.losses)),
        balance=trial.suggest_categorical("balance", _with(trained.balance, search.balances)),
        learning_rate=_suggest_log(trial, "learning_rate", RATES, trained.learning_rate),
    )
    if training.balance != "natural":  # where the ratio has a meaning
        training = replace(training, ratio=_suggest_log(trial, "ratio", RATIOS, trained.ratio))
    return replace(base, rendering=rendering, training=training)


def point_of(base: Recipe) -> dict[str, Any]:
    """The recipe itself as a point of the space, by the names of the parameters."""
    shown, trained = base.rendering, base.training
    point = {name: getattr(shown, name) for name in ("channels", "pool", "sigma")}
    point |= {name: getattr(trained, name) for name in ("network", "loss", "balance", "learning_rate")}
    return point if trained.balance == "natural" else point | {"ratio": trained.ratio}


def _with(own: Any, choices: tuple[Any, ...]) -> tuple[Any, ...]:
    """The choices, the recipe's own among them."""
    return tuple(dict.fromkeys((*choices, own)))


def _pools(bins: int) -> tuple[int, ...]:
    return tuple(pool for pool in (1, 2, 4) if bins // pool >= SMALLEST and bins % pool == 0) or (1,)


def _suggest_log(trial: BaseTrial, name: str, bounds: tuple[float, float], own: float) -> float:
    return trial.suggest_float(name, min(bounds[0], own), max(bounds[1], own), log=True)
