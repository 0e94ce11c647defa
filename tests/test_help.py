"""The help as a user meets it: commands by job, options under headings, examples that are commands, nothing idle."""

import shlex

import pytest
from rich.console import Console

import pairscape
from pairscape.command_line import app
from pairscape.headings import GROUPS, IN_JOBS, heading
from pairscape.pipeline.keywords import section

COMMANDS = [name for name in app if not name.startswith("-")]


def help_of(capsys, *words):
    """The page as text, wide enough that no line is broken."""
    app([*words, "--help"], console=Console(width=400), exit_on_error=False, result_action="return_value")
    return capsys.readouterr().out


def test_every_command_stands_in_one_job(capsys):
    jobs = [name for names in IN_JOBS.values() for name in names]
    assert len(jobs) == len(set(jobs))
    assert set(COMMANDS) <= set(jobs)
    page = help_of(capsys)
    assert [page.index(f"─ {job} ─") for job in IN_JOBS] == sorted(page.index(f"─ {job} ─") for job in IN_JOBS)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_page_has_headings_examples_and_nothing_idle(name, capsys):
    page = help_of(capsys, name)
    assert "─ Parameters ─" not in page
    for idle in ("--empty-", "--no-quiet", "--no-overwrite", "[default: False]"):
        assert idle not in page
    examples = section(getattr(pairscape, name), "Examples").splitlines()
    assert len(examples) == 2
    assert all(example in page for example in examples)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_is_explained(name):
    known = app[name].assemble_argument_collection(parse_docstring=True)
    assert [argument.name for argument in known if not argument.parameter.help] == []


@pytest.mark.parametrize("name", COMMANDS)
def test_every_example_is_a_command(name):
    for example in section(getattr(pairscape, name), "Examples").splitlines():
        program, *words = shlex.split(example)
        command, bound, _ = app.parse_args(words, exit_on_error=False, print_error=False)
        vars(command)["check"](bound.kwargs)
        assert (program, command.__name__) == ("pairscape", name)


@pytest.mark.parametrize(
    ("command", "option", "expected"),
    [
        ("heatmaps", "pairs", "Candidates"), ("predict", "network", "Labels"), ("train", "network", "Network"),
        ("train", "negatives", "Folds"), ("plan", "negatives", "Labels"), ("ingest", "gene_map", "Names"),
        ("train", "device", "Where it runs"), ("predict", "device", "Where it runs"),
        ("export", "precision", "Edges"), ("train", "precision", "Network"), ("show", "by", "Pictures"),
        ("predict", "quiet", "Output"), ("heatmaps", "some option of tomorrow", "Output"),
    ],
)  # fmt: skip
def test_an_option_stands_under_its_heading(command, option, expected):
    assert heading(command, option) == expected
    assert expected in GROUPS


def test_what_can_be_switched_off_says_how(capsys):
    """What is on unless it is said, or is decided by the data, keeps its other form."""
    assert "--no-counts" in help_of(capsys, "simulate")
    assert "--no-q-values" in help_of(capsys, "predict")
    assert "--no-mirror" in help_of(capsys, "train")


def test_hidden_forms_still_work():
    """A job file says `quiet = false`, and scripts may."""
    _, bound, _ = app.parse_args(["fetch", "--no-quiet"], exit_on_error=False, print_error=False)
    assert bound.kwargs["quiet"] is False
