"""Where a training stands after an epoch, in one file that is written whole; an interrupted training goes on from it.

The file has all that later epochs depend on: the network and its average, the optimizer, the schedule, the random
generators, the epochs so far, and the weights of the best one. `history.csv` and `model.safetensors` are made from it.
"""

import hashlib
import json
import math
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from pairscape.model.batches.folds import Folds
from pairscape.model.batches.many import AnyImages
from pairscape.model.evaluation.evaluate import versions
from pairscape.model.networks.device import choose_device
from pairscape.model.networks.weights import TensorFile, load_tensors, save_tensors
from pairscape.model.options import Recipe
from pairscape.model.training.learner import Learner
from pairscape.pipeline.errors import InputError
from pairscape.pipeline.storage.digests import digest

KIND = "pairscape-checkpoint"
BEST, NETWORK, AVERAGED, OPTIMIZER, RANDOM = "best", "network", "averaged", "optimizer", "random"


@dataclass(frozen=True, eq=False)
class Standing:
    """Where a training stands, beside what its learner has learned.

    Attributes
    ----------
    rows
        The epochs so far, each a row of `history.csv`.
    best, best_epoch
        Rank of the best epoch, which is higher for better ones, and its number.
    best_weights
        Weights of that epoch by name.
    failure
        Why the training broke off; None: it did not.
    seconds
        Spent so far, those of interrupted calls included.
    """

    rows: tuple[tuple[float, ...], ...] = ()
    best: tuple[float, float] = (-math.inf, -math.inf)
    best_epoch: int = 0
    best_weights: dict[str, Tensor] = field(default_factory=dict)
    failure: str | None = None
    seconds: float = 0.0


def job_of(images: AnyImages, folds: Folds, recipe: Recipe, seed: int) -> str:
    """Digest of all that decides the weights but the machine: recipe, seed, stores, folds, versions."""
    options = asdict(recipe)
    for name in ("min_matched", "fold_file"):  # a check, and where the folds lie: what they are is in their hash
        del options["splitting"][name]
    store, split = images.spec.plan_hash, folds.content_hash()
    return digest({"recipe": options, "seed": seed, "store": store, "folds": split, "versions": versions()})


def machine_of(recipe: Recipe) -> dict[str, Any]:
    """What decides the last digits of sums here: the device, its instructions, and the threads that share a sum."""
    device = choose_device(recipe.training.device).type
    return {"device": device, "threads": torch.get_num_threads(), "cpu": torch.backends.cpu.get_cpu_capability()}


def save_checkpoint(path: Path, job: str, machine: Mapping[str, Any], learner: Learner, standing: Standing) -> None:
    """Write where a training stands, in place of the epoch before.

    Parameters
    ----------
    job, machine
        Of `job_of` and `machine_of`.
    """
    said = {name: value for name, value in vars(standing).items() if name != "best_weights"}
    schedule = {name: value for name, value in learner.schedule.state_dict().items() if name != "lr_lambdas"}
    facts = {"job": job, "machine": dict(machine), "standing": said, "schedule": schedule}
    tensors = {**_tensors_of(learner), **_named(BEST, standing.best_weights)}
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    save_tensors(path, KIND, tensors, facts | {"sha256": _content(tensors, facts)})


def read_checkpoint(path: Path, job: str) -> TensorFile | None:
    """A checkpoint of this very job; None where there is none, one of another job, or a damaged one."""
    if not path.exists():
        return None
    with suppress(InputError):
        found = load_tensors(path, KIND)
        said = found.facts.pop("sha256", None)
        if found.facts.get("job") == job and said == _content(found.tensors, found.facts):
            return found
    return None


def restore(found: TensorFile, learner: Learner) -> Standing:
    """Set a new learner of the same job to where the checkpoint stands; returns the rest of it."""
    learner.classifier.load_state_dict(_taken(NETWORK, found.tensors))
    if learner.averaged is not None:
        learner.averaged.load_state_dict(_taken(AVERAGED, found.tensors))
    _restore_optimizer(found, learner)
    torch.set_rng_state(found.tensors[f"{RANDOM}.cpu"])
    if learner.device.type == "cuda" and (state := found.tensors.get(f"{RANDOM}.cuda")) is not None:
        torch.cuda.set_rng_state(state, learner.device)
    if learner.flips is not None:
        learner.flips.set_state(found.tensors[f"{RANDOM}.flips"])
    said = found.facts["standing"]
    rows, best = tuple(tuple(row) for row in said["rows"]), (said["best"][0], said["best"][1])
    return Standing(**said | {"rows": rows, "best": best, "best_weights": _taken(BEST, found.tensors)})


def _tensors_of(learner: Learner) -> dict[str, Tensor]:
    """All tensors that the learner changes, by name."""
    found = _named(NETWORK, learner.classifier.state_dict())
    if learner.averaged is not None:
        found |= _named(AVERAGED, learner.averaged.state_dict())
    for number, state in learner.optimizer.state_dict()["state"].items():
        found |= _named(f"{OPTIMIZER}.{number}", {k: v for k, v in state.items() if isinstance(v, Tensor)})
    found[f"{RANDOM}.cpu"] = torch.get_rng_state()
    if learner.device.type == "cuda":
        found[f"{RANDOM}.cuda"] = torch.cuda.get_rng_state(learner.device)
    if learner.flips is not None:
        found[f"{RANDOM}.flips"] = learner.flips.get_state()
    return found


def _restore_optimizer(found: TensorFile, learner: Learner) -> None:
    learner.schedule.load_state_dict({**found.facts["schedule"], "lr_lambdas": [None] * len(learner.groups)})
    for group, rate in zip(learner.groups, learner.schedule.get_last_lr(), strict=True):
        group["lr"] = rate
    parameters = [parameter for group in learner.groups for parameter in group["params"]]
    for number, parameter in enumerate(parameters):
        state = _taken(f"{OPTIMIZER}.{number}", found.tensors)
        # laid out in memory like the weights, as the optimizer does: else the last digits could differ
        learner.optimizer.state[parameter] = {
            name: torch.empty_like(parameter).copy_(value) if value.shape == parameter.shape else value
            for name, value in state.items()
        }


def _named(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}.{name}": tensor for name, tensor in tensors.items()}


def _taken(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    start = f"{prefix}."
    return {name.removeprefix(start): tensor for name, tensor in tensors.items() if name.startswith(start)}


def _content(tensors: dict[str, Tensor], facts: Mapping[str, Any]) -> str:
    """Hex sha256 of all that the file says, as a file of tensors has no checksum of its own."""
    return hashlib.sha256(save(tensors) + json.dumps(facts, sort_keys=True).encode()).hexdigest()
