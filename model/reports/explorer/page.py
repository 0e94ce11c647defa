"""The page of the explorer: one file that loads nothing from anywhere, for the served page and the saved one alike.

Its content policy lets the browser run the two scripts that are named by their hash, and nothing else.
"""

import base64
import hashlib
import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import matplotlib
import numpy as np
from matplotlib.colors import to_hex

from pairscape.model.reports.figures import KIND_COLOURS, NEGATIVE, POSITIVE
from pairscape.model.reports.heatmap_figures import RESIDUAL_LIMIT
from pairscape.model.reports.page import templates

SCRIPTS = ("explorer-data.js", "explorer-picture.js", "explorer-network.js", "explorer.js", "explorer-search.js")
STEPS = 128  # colours of a scale


def render_page(words: Mapping[str, Any]) -> bytes:
    """The page, with what it has to know before it asks; of a saved page that is everything."""
    script = page_script()
    config = {**words, "look": look()}
    page = (
        templates()
        .get_template("explorer.html.j2")
        .render(
            name=words["name"],
            config=in_script(config),
            script=script,
            digest=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        )
    )
    return page.encode(errors="replace")


def in_script(value: Any) -> str:
    """JSON that ends no element of a page, whatever its text holds."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


@lru_cache(maxsize=1)
def page_script() -> str:
    """The scripts of the page as one."""
    made = templates()
    assert made.loader is not None
    parts = [made.loader.get_source(made, name)[0] for name in SCRIPTS]
    return "\n".join(["'use strict';", *parts])


@lru_cache(maxsize=1)
def look() -> dict[str, Any]:
    """Colours as in the other reports: of counts, of residuals, of kinds and signs."""
    return {
        "density": _steps("viridis", 0.2),
        "empty": "#2a1040",
        "residual": _steps("RdBu_r", 0.0),
        "limit": RESIDUAL_LIMIT,
        "kinds": KIND_COLOURS,
        "positive": POSITIVE,
        "negative": NEGATIVE,
    }


def _steps(name: str, low: float) -> list[str]:
    return [to_hex(colour) for colour in matplotlib.colormaps[name](np.linspace(low, 1, STEPS))]
