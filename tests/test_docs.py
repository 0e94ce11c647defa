"""What the documentation names in the code and the tests is there."""

import re
from pathlib import Path

import pytest

import pairscape

ROOT = Path(__file__).parents[1]
TUTORIALS = sorted(ROOT.glob("docs/tutorials/*.md"))
PAGES = sorted(
    [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *TUTORIALS, *ROOT.glob("*/README.md"), *ROOT.glob("benchmarks/*.md")]
)
TOPS = ("pairscape", "pipeline", "model", "tests", "recipes", "benchmarks", "deploy")
FILES = [*ROOT.glob("*"), *ROOT.glob("docs/*.py"), *(path for top in TOPS for path in (ROOT / top).rglob("*"))]
NAMED = re.compile(r"`([\w./-]+\.(?:py|toml|j2|yaml|sh|sbatch))(?:::(\w+))?`")
MODULE = re.compile(r"`(?:pairscape\.)?((?:pipeline|model)\.[a-z_]+(?:\.[a-z_]+)*)(?:\.\w+(?:\(.*?\))?)?`")
USERS = {
    "job.toml",
    "config.toml",
    "CONFIG.toml",
    "model.py",
    "random.py",
    "zarr.py",
    "NAME.py",
}  # files of a user, or that a reader is to write


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_files_tests_and_modules_that_a_page_names_exist(page):
    text = page.read_text() if page.name != "CHANGELOG.md" else page.read_text().split("\n## ")[1]
    gone = []
    for name, test in NAMED.findall(text):
        found = [path for path in FILES if str(path).endswith(f"/{name}")]
        if Path(name).name not in USERS and not found:
            gone.append(name)
        elif test and not any(f"def {test}(" in path.read_text() for path in found):
            gone.append(f"{name}::{test}")
    for name in set(MODULE.findall(text)) - {"model.safetensors", "model.py"}:
        path = ROOT.joinpath(*name.split("."))
        if not (path.with_suffix(".py").exists() or path.is_dir() or path.parent.with_suffix(".py").exists()):
            gone.append(name)
    assert gone == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_tests_that_a_page_names_by_their_beginning_exist(page):
    known = "\n".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    named = re.findall(r"`(test_\w+)…", page.read_text())
    assert [name for name in named if f"def {name}" not in known] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_between_pages_lead_somewhere(page):
    targets = re.findall(r"\]\((?!https?://|#|mailto:)([^)#]+)", page.read_text())
    assert [target for target in targets if not (page.parent / target).exists()] == []


@pytest.mark.parametrize("page", TUTORIALS, ids=lambda page: page.stem)
def test_a_tutorial_says_how_long_it_takes_and_what_it_needs_and_runs(page):
    """What it prints is made when the site is built, so no output is written into it."""
    text = page.read_text()
    start = text.split("\n# ")[1].split("\n\n")[1]
    assert start.startswith("**Takes** ")
    assert "**Needs** " in start
    assert "file_format: mystnb" in text.split("---")[1]
    assert "```{code-cell}" in text
    assert f"tutorials/{page.stem}\n" in (ROOT / "docs/index.md").read_text()


def test_every_function_of_the_package_is_on_the_page_of_python_functions():
    page = (ROOT / "docs/api.md").read_text()
    commands = set(pairscape.__all__) - {"__version__", "app", "main", "pl"}
    drawn = {f"pl.{name}" for name in pairscape.pl.__all__}
    assert [name for name in sorted(commands | drawn) if f"~pairscape.{name}\n" not in page] == []
