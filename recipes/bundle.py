"""Put a trained universal network into the package: `python recipes/bundle.py universal/run`.

The folder `pairscape/universal` gets the weights as they are, and what a user needs of the rest: `config.toml` with the
recipe, `metrics.json` without the audits of single stores, the model card with one line for each data set in place of
one for each store. Nothing in them names the machine that it was made on.
"""

import json
import re
import sys
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import tomli_w

BUNDLE = Path(__file__).resolve().parent.parent / "pairscape" / "universal"
OF_A_STORE = ("n_cells", "prevalence", "n_test", "test", "kinds")
SET = re.compile(r"^- image store `(.+?)-\d+\.zarr`.*? (\d[\d,]*) pairs", re.MULTILINE)


def main(run: Path) -> None:
    """Replace the bundle by a run."""
    BUNDLE.mkdir(exist_ok=True)
    config = tomllib.loads((run / "config.toml").read_text())
    store = {name: value for name, value in config["store"].items() if not isinstance(value, list | dict)}
    metrics = json.loads((run / "metrics.json").read_text())
    contents = {
        "model.safetensors": (run / "model.safetensors").read_bytes(),
        "config.toml": tomli_w.dumps(config | {"store": store}).encode(),
        "metrics.json": json.dumps(_slim(metrics) | {"store": store}, indent=1).encode(),
        "model-card.md": _card((run / "model-card.md").read_text()).encode(),
    }
    for name, content in contents.items():
        (BUNDLE / name).write_bytes(content)


def _slim(metrics: dict[str, Any]) -> dict[str, Any]:
    """The metrics, of each test store the figures alone."""
    stores = [
        {"name": Path(one["path"]).stem} | {name: one[name] for name in OF_A_STORE if name in one}
        for one in metrics["stores"]
    ]
    return {name: value for name, value in metrics.items() if name not in ("seconds", "notes")} | {"stores": stores}


def _card(card: str) -> str:
    """The card under the name by which the network is known, its stores put together by data set."""
    pairs = dict[str, list[int]]()
    for name, number in SET.findall(card):
        pairs.setdefault(name, []).append(int(number.replace(",", "")))
    lines = [f"- `{name}`: {sum(of)} pairs planted in {len(of)} draws of its cells" for name, of in pairs.items()]
    kept = [line for line in card.splitlines() if not line.startswith("- image store ")]
    at = kept.index("## What it was trained on") + 2
    told = "Sources and licences of the data sets: docs/universal.md of Pairscape. None of them is in the test."
    return _renamed([*kept[:at], told, "", *lines, *kept[at:]])


def _renamed(lines: Iterable[str]) -> str:
    text = "\n".join(lines) + "\n"
    text = text.replace("# Model card: run", "# Model card: universal").replace("predict run ", "predict universal ")
    text = re.sub(r"labelled by: those of the list `.*?`\.", "of a planted dependence rather than none.", text)
    text = re.sub(r"^\| `reference.safetensors`.*\n", "", text, flags=re.MULTILINE)
    return text.replace("The folder needs four files and nothing else", "The folder holds these files")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
