"""The README's picture, from a demo's run folder.

python -m benchmarks.picture [RUN] [FILE]
"""

import sys
from pathlib import Path

import numpy as np

from pairscape.model.reports.heatmap_figures import pair_figure


def draw(run: Path, file: Path) -> None:
    """Three pairs that the network found and three that it rightly left out; beneath each, its residual."""
    examples = np.load(run / "examples.npz")
    group = examples["group"]
    chosen = np.concatenate([np.flatnonzero(group == name)[:3] for name in ("true positive", "true negative")])
    titles = ["found" if group[i] == "true positive" else "left out" for i in chosen]
    genes = [[str(name) for name in examples[side][chosen]] for side in ("gene_a", "gene_b")]
    pair_figure(examples["images"][chosen], titles, *genes, residual=True, columns=6).savefig(file, dpi=110)


if __name__ == "__main__":
    defaults = ["data/demo/run", "docs/demo.png"]
    draw(*(Path(word) for word in sys.argv[1:] + defaults[len(sys.argv) - 1 :]))
