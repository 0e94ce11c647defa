"""The registry of public data sets: what each must say, and what the files that are here must be."""

import os
import re
import shlex
from pathlib import Path
from urllib.parse import urlsplit

import pooch
import pytest

import pairscape
from pairscape.pipeline.datasets.registry import RemoteFile, read_registry

ROOT = Path(__file__).parents[3]
REGISTRY = read_registry()
SHARED = ("beeline-mdc", "mesc-hayashi", "pbmc4k", "tf-lists", "cnnc-dendritic")


@pytest.mark.parametrize("name", REGISTRY)
def test_every_data_set_says_what_it_is_and_whose(name):
    found = REGISTRY[name]
    assert re.fullmatch(r"[a-z0-9-]+", name)
    for what in ("title", "contents", "labels", "licence", "citation"):
        assert getattr(found, what).strip(), what
    assert set(found.organism.split(" and ")) <= {"human", "mouse"}
    assert found.files
    assert Path(found.folder).name == found.folder
    assert all(urlsplit(url).scheme == "https" for file in found.files for url in file.urls)
    assert any(file.urls for file in found.files) or "PAIRSCAPE_DATA" in found.note


def test_names_and_places_are_unique():
    places = [(found.folder, file.name) for found in REGISTRY.values() for file in found.files]
    assert len(set(places)) == len(places)
    assert {*SHARED, "pbmc3k", "pbmc68k", "paul15"} <= set(REGISTRY)


def test_a_file_without_a_known_sum_is_said_to_be_one():
    unknown = {name for name, found in REGISTRY.items() if any(file.sha256 is None for file in found.files)}
    assert unknown == {"cnnc-dendritic-cells"}
    assert all("no checksum" in REGISTRY[name].note for name in unknown)


def test_a_sum_that_is_none_is_refused():
    with pytest.raises(ValueError, match="64 hexadecimal"):
        RemoteFile("a.csv", (), sha256="abc")


@pytest.mark.parametrize("command", [command for found in REGISTRY.values() for command in found.use])
def test_the_commands_to_go_on_with_are_commands(command):
    """Every option exists, and every {FILE} is one of the set's."""
    owner = next(found for found in REGISTRY.values() if command in found.use)
    assert set(re.findall(r"\{(.+?)\}", command)) <= {file.name for file in owner.files}
    words = shlex.split(command)
    assert words[0] == "pairscape"
    called, _, _ = pairscape.app.parse_args(words[1:], exit_on_error=False, print_error=False)
    assert called.__name__ == words[1]


@pytest.mark.parametrize("page", ["data/README.md", "docs/data.md"])
@pytest.mark.parametrize("name", REGISTRY)
def test_the_pages_list_every_set(page, name):
    """With its licence; the page of the documentation also says what to cite."""
    rows = [line for line in (ROOT / page).read_text(encoding="utf-8").splitlines() if line.startswith(f"| `{name}`")]
    assert len(rows) == 1
    assert REGISTRY[name].licence in rows[0]
    if page.startswith("docs"):
        assert REGISTRY[name].citation in rows[0]
        assert REGISTRY[name].contents in rows[0]


HERE = [(found.folder, file) for found in REGISTRY.values() for file in found.files]


@pytest.mark.skipif("PAIRSCAPE_DATA" not in os.environ, reason="PAIRSCAPE_DATA does not name the folder of real data")
@pytest.mark.parametrize(("folder", "file"), HERE, ids=[f"{folder}/{file.name}" for folder, file in HERE])
def test_the_files_that_are_here_are_what_the_registry_says(folder, file):
    path = Path(os.environ["PAIRSCAPE_DATA"]) / folder / file.name
    if not path.is_file():
        pytest.skip(f"{path} is not here")
    assert pooch.file_hash(str(path), alg="sha256") == file.sha256
    if file.bytes is not None:
        assert path.stat().st_size == file.bytes
