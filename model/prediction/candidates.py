"""Where the images of candidate pairs come from: codes, from which they are counted, or an image store."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pairscape.pipeline.codes.store import Codes
from pairscape.pipeline.genes.pairs import Pairs
from pairscape.pipeline.heatmaps.count import count_pairs
from pairscape.pipeline.heatmaps.images import Images
from pairscape.pipeline.heatmaps.read import read_images
from pairscape.pipeline.options import Binning


@dataclass(frozen=True, eq=False)
class Origin:
    """Candidate pairs and their images.

    Attributes
    ----------
    pairs
        In the order of an image store.
    genes : (G,) str
        Names.
    source
        What is counted or read.
    provenance
        What is known of the pairs.
    """

    pairs: Pairs
    genes: NDArray[Any]
    source: Codes | Images
    provenance: dict[str, Any]

    @classmethod
    def counted(cls, codes: Codes, pairs: Pairs, provenance: dict[str, Any]) -> "Origin":
        """Images that are still to be counted."""
        return cls(pairs, codes.array("gene"), codes, provenance)

    @classmethod
    def stored(cls, images: Images) -> "Origin":
        """Images of a complete store."""
        return cls(images.pairs(), images.array("gene"), images, images.provenance)

    @property
    def codes(self) -> Codes | None:
        """The codes, where images are counted."""
        return self.source if isinstance(self.source, Codes) else None

    @property
    def images(self) -> Images | None:
        """The store, where images are read."""
        return self.source if isinstance(self.source, Images) else None

    @property
    def n_cells(self) -> int:
        """Cells in every image."""
        return self.source.n_cells if isinstance(self.source, Codes) else self.source.spec.n_cells

    @property
    def binning(self) -> Binning:
        """How they were binned."""
        return self.source.binning if isinstance(self.source, Codes) else self.source.spec.binning

    @property
    def content_hash(self) -> str:
        """Names the content of the codes, or that of the images."""
        return self.source.content_hash if isinstance(self.source, Codes) else self.source.spec.plan_hash

    def read(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.signedinteger], NDArray[np.int32]]:
        """Images and double zeros of some candidates, ascending, in this process."""
        if isinstance(self.source, Codes):
            return count_pairs(
                self.source, self.pairs.gene_a[rows].astype(np.int64), self.pairs.gene_b[rows].astype(np.int64)
            )
        return read_images(self.source, rows)

    def record(self) -> dict[str, Any]:
        """What a file of scores says of them: `matrix`, `codes` or `images`, and `pairs`."""
        pairs = {"n_pairs": len(self.pairs), **self.provenance}
        if isinstance(self.source, Codes):
            known = self.source.provenance
            matrix = {"path": known.get("matrix"), "hash": known.get("matrix_hash"), "n_cells": self.n_cells}
            codes = {"path": self.source.path, "content_hash": self.source.content_hash}
            return {"matrix": matrix, "codes": codes, "pairs": pairs}
        spec = self.source.spec
        images = {"path": str(self.source.path), "plan_hash": spec.plan_hash}
        codes = {"path": spec.codes, "content_hash": spec.codes_hash}
        return {"matrix": {"n_cells": spec.n_cells}, "images": images, "codes": codes, "pairs": pairs}
