"""Print what the tests of `make test-newest` need: pyproject's requirements as a plain `pip install` reads them.

PyTorch is left out: it is several gigabytes, and nothing of `pipeline` imports it. Of the development requirements
those are taken that the tests write files with.
"""

import re
import tomllib
from pathlib import Path

WITHOUT = {"torch"}
WRITERS = {"hypothesis", "loompy", "pytest", "pytest-timeout", "pytest-xdist", "tables"}


def name_of(requirement: str) -> str:
    return re.split(r"[<>=!~;\[ ]", requirement)[0]


def main() -> None:
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    needed = [line for line in project["dependencies"] if name_of(line) not in WITHOUT]
    written_with = [line for line in project["optional-dependencies"]["dev"] if name_of(line) in WRITERS]
    print(*needed, *written_with, sep="\n")


if __name__ == "__main__":
    main()
