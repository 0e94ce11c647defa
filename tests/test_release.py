"""What a release is made from agrees with itself: versions, requirements, supported Pythons, files that are named."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
RECIPE = (ROOT / "deploy/conda/recipe/recipe.yaml").read_text(encoding="utf-8")
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
CONDA = {"torch": "pytorch", "matplotlib": "matplotlib-base", "dask": "dask-core"}  # names that differ there
BARE = r"[\w-]+"


def recipe_without_templates():
    """The recipe as YAML, with its templates filled in."""
    filled = yaml.safe_load(RECIPE)["context"]
    text = re.sub(r"\$\{\{ (\w+) \}\}", lambda found: str(filled.get(found[1], found[1])), RECIPE)
    return yaml.safe_load(text)


def in_conda(requirement):
    """A requirement of pyproject as conda-forge writes it."""
    name = re.match(BARE, requirement)[0]
    limits = requirement.removeprefix(name)
    return f"{CONDA.get(name, name)} {limits}".strip()


def test_the_recipe_asks_for_what_the_package_asks_for():
    python, *rest = recipe_without_templates()["requirements"]["run"]
    assert python == f"python {PROJECT['requires-python']}"
    assert rest == [in_conda(requirement) for requirement in PROJECT["dependencies"]]


def test_every_file_says_the_same_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert {PROJECT["version"], citation["version"], recipe_without_templates()["package"]["version"]} == {
        PROJECT["version"]
    }


def test_the_licence_is_the_same_everywhere():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert PROJECT["license"] == citation["license"] == recipe_without_templates()["about"]["license"]


def test_the_entry_point_is_the_recipes():
    (point,) = recipe_without_templates()["build"]["python"]["entry_points"]
    assert point == f"pairscape = {PROJECT['scripts']['pairscape']}"


def test_tests_run_on_every_python_that_is_promised():
    promised = {line.split(" :: ")[-1] for line in PROJECT["classifiers"] if re.search(r":: 3\.\d+$", line)}
    ranges = yaml.safe_load((ROOT / ".github/workflows/tests.yml").read_text(encoding="utf-8"))["jobs"]["ranges"]
    assert set(ranges["strategy"]["matrix"]["python"]) == promised
    assert min(promised, key=lambda version: int(version[2:])) == PROJECT["requires-python"].removeprefix(">=")


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_reads_only_and_ends(path):
    """Rights are given job by job, and no job runs for ever; a checkout keeps no credentials."""
    workflow = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert workflow["permissions"] == {"contents": "read"}
    for job in workflow["jobs"].values():
        assert job["timeout-minutes"] <= 90
        rights = job.get("permissions", {})
        assert rights in ({}, {"id-token": "write"})
        checkouts = [step for step in job["steps"] if step.get("uses", "").startswith("actions/checkout")]
        assert all(step["with"]["persist-credentials"] is False for step in checkouts)


def test_publishing_needs_the_build_and_keeps_no_password():
    workflow = yaml.safe_load((ROOT / ".github/workflows/publish.yml").read_text(encoding="utf-8"))
    job = workflow["jobs"]["publish"]
    assert job["needs"] == "build"
    assert job["permissions"] == {"id-token": "write"}
    assert job["steps"][-1]["with"] == {"attestations": True}
    assert "secrets." not in (ROOT / ".github/workflows/publish.yml").read_text(encoding="utf-8")


def test_workflows_name_targets_and_files_that_are_there():
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    for path in WORKFLOWS:
        text = path.read_text(encoding="utf-8")
        assert set(re.findall(r"make ([\w-]+)", text)) <= targets | {"docs"}, path.name
        assert [name for name in re.findall(r"\btests/[\w./]+", text) if not (ROOT / name).exists()] == []


def test_the_source_distribution_names_folders_that_are_there():
    lines = (ROOT / "MANIFEST.in").read_text(encoding="utf-8").splitlines()
    named = [name for line in lines if line.startswith(("graft", "include ")) for name in line.split()[1:]]
    assert [name for name in named if not (ROOT / name).exists()] == []
    assert {"deploy", "tests", "docs", "model", "pipeline"} <= set(named)
