"""The facts in `model.safetensors` that a prediction needs beside the weights, and what is refused of them.

A run from before all of them were kept is completed from its `config.toml` and `metrics.json`.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, get_args

from pairscape.model.networks.prior import Taught
from pairscape.model.networks.published import NETWORKS
from pairscape.model.networks.render import CHANNELS
from pairscape.model.networks.weights import read_config, read_metrics, read_recipe
from pairscape.model.options import Rendering
from pairscape.pipeline.errors import InputError
from pairscape.pipeline.options import BinningRule

NETWORK_VERSION = 1
"""Raised when weights trained before would mean something else in an architecture, a rendering or a rule of binning."""

LATER = ("network_version", "scale", "class_names", "natural", "loss_weights", "gamma")  # absent from early runs


def class_names(classes: int, directed: bool) -> list[str]:
    """The classes in words, in the order of the labels."""
    if classes == 3:
        return ["none", "a → b", "b → a"]
    return ["none", "a → b" if directed else "pair"]


def complete_facts(stored: Mapping[str, Any], run: Path) -> dict[str, Any]:
    """The facts of a run, checked.

    Returns
    -------
    dict
        `network`, `network_version`, `rendering`, `bins`, `scale`, `classes`, `class_names`, `mirror`, `shown`,
        `natural` (None where an early run did not record it), `loss_weights`, `gamma`; and whatever else was stored.

    Raises
    ------
    InputError
        A fact is missing and cannot be completed, is none that this Pairscape knows, or contradicts another.
    """
    facts = dict(stored)
    path = run / "model.safetensors"
    absent = [name for name in KINDS if name not in facts and name not in LATER]
    if absent:
        raise InputError(f"{path} does not say its {absent[0]}, so it cannot be used; train again.")
    _check_kinds(facts, path)
    if any(name not in facts for name in LATER):
        facts = _of_early_run(facts, run) | facts
        _check_kinds(facts, run / "config.toml")
    _check_agreement(facts, path)
    return facts


def _check_kinds(facts: Mapping[str, Any], path: Path) -> None:
    for name, (good, what) in KINDS.items():
        if name in facts and not good(facts[name]):
            raise InputError(f"{path}: {name} is {facts[name]!r}, not {what}; use the Pairscape that wrote it.")


def _of_early_run(facts: Mapping[str, Any], run: Path) -> dict[str, Any]:
    recipe, _ = read_recipe(run / "config.toml")
    store = read_config(run / "config.toml").get("store")
    scale = store.get("scale") if isinstance(store, dict) else None
    taught = Taught.by(recipe.training, facts["shown"], facts["classes"]).facts()
    names = class_names(facts["classes"], directed=not facts["mirror"])
    return {"network_version": 1, "scale": scale, "class_names": names, "natural": _natural(run), **taught}


def _natural(run: Path) -> float | None:
    """Share of positives in the training pairs, as `metrics.json` has it."""
    metrics = read_metrics(run) or {}
    calibration = metrics.get("calibration", {})
    found = calibration.get("natural", metrics.get("prevalence")) if isinstance(calibration, dict) else calibration
    if found is None or is_share(found):
        return found
    raise InputError(
        f"{run / 'metrics.json'}: the share of edges in training is {found!r}, not a share from 0 to 1; restore the "
        "file, or remove it and give --prior."
    )


def is_share(value: Any) -> bool:
    """Whether it is a number from 0 to 1."""
    return _is_number(value) and 0 <= value <= 1


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def _is_rendering(value: Any) -> bool:
    """Whether every option is one that `Rendering` takes, of its own type."""
    if not isinstance(value, dict) or set(value) - {field.name for field in fields(Rendering)}:
        return False
    drawn = {**asdict(Rendering()), **value}
    return (
        isinstance(drawn["channels"], str)
        and drawn["channels"] in CHANNELS
        and type(drawn["pool"]) is int
        and drawn["pool"] >= 1
        and _is_number(drawn["sigma"])
        and drawn["sigma"] >= 0
        and isinstance(drawn["drop_both_zero"], bool)
    )


def _are_weights(value: Any) -> bool:
    return value is None or (isinstance(value, list) and all(_is_number(weight) and weight > 0 for weight in value))


KINDS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "network": (
        lambda v: isinstance(v, str) and v in NETWORKS,
        f"a network that this Pairscape has ({', '.join(NETWORKS)})",
    ),
    "network_version": (
        lambda v: type(v) is int and v == NETWORK_VERSION,
        f"{NETWORK_VERSION}, the version that this Pairscape has",
    ),
    "rendering": (_is_rendering, "a rendering that this Pairscape has"),
    "bins": (lambda v: type(v) is int and 2 <= v <= 255, "a number of bins from 2 to 255"),
    "scale": (lambda v: v in get_args(BinningRule), f"a rule of binning ({', '.join(get_args(BinningRule))})"),
    "classes": (lambda v: type(v) is int and v in (2, 3), "2 or 3"),
    "class_names": (lambda v: isinstance(v, list) and all(isinstance(name, str) for name in v), "a list of names"),
    "mirror": (lambda v: isinstance(v, bool), "true or false"),
    "shown": (lambda v: is_share(v) and 0 < v < 1, "a share of positives between 0 and 1"),
    "natural": (lambda v: v is None or is_share(v), "a share of positives from 0 to 1"),
    "loss_weights": (_are_weights, "weights above 0, or none"),
    "gamma": (lambda v: _is_number(v) and v >= 0, "the focus of a loss, 0 or more"),
}


def _check_agreement(facts: Mapping[str, Any], path: Path) -> None:
    for name in ("class_names", "loss_weights"):
        if facts[name] is not None and len(facts[name]) != facts["classes"]:
            raise InputError(
                f"{path}: {name} has {len(facts[name])} entries for {facts['classes']} classes; the file was changed "
                "by hand: copy it again, or train again."
            )
