"""Say how long a training will take, while its first epoch runs.

All is timed from outside: batches in between, scoring with an untrained network of the same kind, before the training
sets its random generators. So it changes no weight.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from pairscape.model.batches.folds import Folds
from pairscape.model.batches.many import AnyImages, ManyStores
from pairscape.model.batches.order import Rows
from pairscape.model.evaluation.baselines import heatmap_statistics
from pairscape.model.evaluation.depth_null import NULL_PAIRS
from pairscape.model.evaluation.evaluate import THRESHOLD_ROWS
from pairscape.model.networks.classifier import PairClassifier, score_rows
from pairscape.model.networks.device import choose_device
from pairscape.model.networks.fast import prepare
from pairscape.model.options import Recipe, Training
from pairscape.model.training.learner import shows_mirrors
from pairscape.model.training.train import CHECKED, TRAINING, VALIDATION_ROWS
from pairscape.pipeline.compute.progress import Progress, Say, duration
from pairscape.pipeline.heatmaps.images import Images

TRIED_PAIRS, WARM_PAIRS = 1024, 64
TIMED_SECONDS = 3.0  # of batches
WARM_BATCHES = 3  # which wait for the first images, and load what is compiled
TIMED_SHARE = 0.75  # of the first epoch, at most
WORTH_TELLING = 5.0  # seconds of all that is left
# What the rest of the test takes (the rivals' models, intervals, pictures, report), in pairs judged by statistics.
REST_PAIRS = 50_000


@dataclass(frozen=True)
class Timed:
    """Seconds of what follows the batches.

    Attributes
    ----------
    validation, test
        Of the validation after each epoch; of all that follows the last epoch.
    """

    validation: float
    test: float


def try_scoring(images: AnyImages, folds: Folds, recipe: Recipe) -> Timed | None:
    """Score and judge some pairs as the training will; None for a network that reads other genes beside the pair."""
    device, bins = choose_device(recipe.training.device), images.spec.binning.bins
    mirror = shows_mirrors(recipe.training, folds)
    classifier = PairClassifier(recipe.training.network, recipe.rendering, bins, folds.classes, mirror).to(device)
    if classifier.knows_genes:  # all of them would have to be described
        return None
    store = images.stores[0] if isinstance(images, ManyStores) else images
    pairs, ready, watched, tested = store.pairs(), prepare(classifier, device), folds.validation.size, folds.test.size
    rows = _tried_rows(store, watched + tested)
    plain = _seconds(lambda rows: score_rows(classifier, store, rows, lambda _: None), rows)
    fast = _seconds(lambda rows: score_rows(classifier, store, rows, lambda _: None, ready), rows)
    judged = _seconds(lambda rows: heatmap_statistics(store, pairs, rows), rows)
    scored = fast * (watched + tested + min(tested, NULL_PAIRS))
    return Timed(
        plain * min(watched, VALIDATION_ROWS), scored + judged * (min(watched, THRESHOLD_ROWS) + tested + REST_PAIRS)
    )


def _tried_rows(store: Images, scored: int) -> Rows:
    """Rows of one shard, as dense there as those that will be scored: so as much is read for each of them."""
    middle = store.spec.shard_rows(store.spec.n_shards // 2)
    dense = min(scored / store.spec.n_pairs, 1.0) * len(middle)
    size = min(max(round(dense), WARM_PAIRS), TRIED_PAIRS, len(middle))
    return np.unique(np.linspace(middle[0], middle[-1], size).astype(np.int64))


def _seconds(use: Callable[[Rows], object], rows: Rows) -> float:
    """Of one row, after a few others; the quickest of three tries, as other programs disturb some."""
    use(rows[:WARM_PAIRS])
    ticks = [time.perf_counter()]
    for _ in range(3):
        use(rows)
        ticks.append(time.perf_counter())
    return float(np.diff(ticks).min()) / rows.size


@dataclass
class Foretelling:
    """Progress of a training that says once, in its first epoch, how long all of it will take.

    Attributes
    ----------
    tried
        What follows the batches. Absent: it is not known, and said so.
    runs
        Like this one that are to be made, this one among them.
    clock
        Seconds of any clock that does not jump.
    """

    progress: Progress
    say: Say
    settings: Training
    tried: Timed | None
    runs: int = 1
    clock: Callable[[], float] = time.perf_counter
    _stage: str = field(default="", init=False)
    _total: int = field(default=0, init=False)
    _before: int | None = field(default=None, init=False)  # images of an interrupted call
    _ticks: list[tuple[float, int]] = field(default_factory=list, init=False)  # of each batch: when, images until then

    def start(self, stage: str, total: int) -> None:
        """A stage of this many units begins; the one before it is over."""
        self.progress.start(stage, total)
        self._stage, self._total, self._before = stage, total, None
        self._ticks.clear()

    def advance(self, units: int) -> None:
        """That many more are done."""
        self.progress.advance(units)
        if self._stage != TRAINING:
            return
        if self._before is None:
            self._before = units
            return
        self._ticks.append((self.clock(), (self._ticks[-1][1] if self._ticks else 0) + units))
        if self._is_timed():
            self.say(*self._lines())
            self._stage = ""  # said once

    def _is_timed(self) -> bool:
        """Whether enough batches are timed, or the first epoch is nearly over."""
        if len(self._ticks) <= WARM_BATCHES:
            return False
        seconds = self._ticks[-1][0] - self._ticks[WARM_BATCHES - 1][0]
        long = seconds >= TIMED_SECONDS and len(self._ticks) >= WARM_BATCHES + CHECKED  # a GPU is waited for by then
        return long or self._ticks[-1][1] >= TIMED_SHARE * self._epoch_images

    @property
    def _epoch_images(self) -> float:
        return self._total / self.settings.epochs

    def _lines(self) -> list[str]:
        """What is left, in words; nothing where it is over at once."""
        assert self._before is not None
        (began, before), (now, shown) = self._ticks[WARM_BATCHES - 1], self._ticks[-1]
        image, epochs = (now - began) / (shown - before), self.settings.epochs
        left = (self._total - self._before) / self._epoch_images
        follows = self.tried or Timed(0.0, 0.0)
        epoch = image * self._epoch_images + follows.validation
        seconds = left * epoch + follows.test + (self.runs - 1) * (epochs * epoch + follows.test)
        if seconds < WORTH_TELLING:
            return []
        ends = self.settings.patience < epochs - 1
        runs, most = f"{self.runs} runs, each " if self.runs > 1 else "", "up to " * ends
        some = f"{left:.0f} epochs" if left == epochs else f"{left:.0f} epochs of {epochs} left"
        return [
            f"training takes {'at most' if ends else 'about'} {duration(seconds)}: {runs}{most}{some} of "
            f"{duration(epoch)}, {self._after()}"
        ]

    def _after(self) -> str:
        if self.tried is None:
            return "without validation and test, which were not timed"
        return f"and {duration(self.tried.test)} for the test"
