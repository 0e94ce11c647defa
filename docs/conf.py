"""The documentation site: `make docs` builds it, executes the tutorials and fails on any warning."""

import os
import re
import shutil
import sys
from importlib.metadata import version as version_of
from pathlib import Path

from sphinx.application import Sphinx

DOCS = Path(__file__).parent
BUILT = DOCS / "_build"
# Pages of the site that show a file from outside of docs/; links to that file lead to the page.
SHOWN = {
    "../CONTRIBUTING.md": "contributing.md",
    "../CHANGELOG.md": "changelog.md",
    "../CODE_OF_CONDUCT.md": "conduct.md",
    "../SECURITY.md": "security.md",
    "../README.md": "index.md",
    "../deploy/README.md": "deploy.md",
    "../benchmarks/RESULTS.md": "speed.md",
}

# What a tutorial runs: the `pairscape` of this Python, one thread a process; docs/_ipython.
os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
os.environ |= {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1", "IPYTHONDIR": str(BUILT / "ipython")}

project, author, copyright = "Pairscape", "the authors of Pairscape", "the authors of Pairscape"
version = release = version_of("pairscape")
language = "en"
extensions = [
    "myst_nb", "sphinx.ext.autodoc", "sphinx.ext.autosummary", "sphinx.ext.napoleon", "sphinx_copybutton",
    "sphinx_design",
]  # fmt: skip
exclude_patterns = ["_build"]
templates_path = ["_templates"]
highlight_language = "bash"
nitpicky = True
nitpick_ignore_regex = [("py:.*", r"(?!pairscape\.).*")]  # names of other packages, whose sites are not asked

html_theme = "sphinx_book_theme"
html_title = "Pairscape"
html_theme_options = {
    "show_navbar_depth": 1,
    "use_fullscreen_button": False,
    "home_page_in_toc": True,
    "navbar_persistent": [],  # the search field stands in the side bar already
}
html_static_path = ["_static"]
html_css_files = ["site.css"]

myst_enable_extensions = ["attrs_inline", "colon_fence"]
myst_heading_anchors = 3  # what a page links to as page.md#heading
nb_execution_mode = "force"
nb_execution_in_temp = True
nb_execution_show_tb = True  # and a warning, which fails the build
nb_execution_timeout = 300
nb_merge_streams = True
suppress_warnings = ["myst-nb.lexer"]  # of cells that were not run (make linkcheck)

autosummary_generate = True
autodoc_member_order = "bysource"
autodoc_typehints = "none"
maximum_signature_line_length = 80
napoleon_google_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False
default_role = "code"  # docstrings have `names` in single quotes, as their readers in a terminal see them

linkcheck_anchors = False
linkcheck_ignore = [r"http://127\.0\.0\.1.*", r"http://localhost.*"]


def prepare_page(app: Sphinx, docname: str, source: list[str]) -> None:
    """Let links lead to pages, under these pages' titles; add the commands to the page of the command line."""
    if docname == "command_line":
        source[0] += commands_in_markdown()
    if "/" not in docname:
        source[0] = lead_to_pages(source[0], Path())
    source[0] = re.sub(r"\[(\w+\.md)\]\(\1\)", r"[](\1)", source[0])


def prepare_shown(app: Sphinx, path: Path, docname: str, content: list[str]) -> None:
    """Let the links of a file that a page shows lead to pages; they are seen from where the file lies."""
    content[0] = lead_to_pages(content[0], path.parent)


def lead_to_pages(text: str, folder: Path) -> str:
    """Make the links to pages and pictures, as seen from a folder beside docs/, links as seen from docs/."""

    def seen(link: re.Match[str]) -> str:
        path = os.path.normpath(folder / link[1]).removeprefix("../docs/")
        return f"]({SHOWN.get(path, path)}"

    return re.sub(r"\]\((?!\w+:)([^)#\s]+\.(?:md|png))", seen, text)


def commands_in_markdown() -> str:
    """Every command with its options, as the program itself describes them."""
    from pairscape.command_line import app

    described = app.generate_docs("markdown").partition("**Commands**:")[2]
    return re.sub(r"docs/(\w+\.md)", r"[](\1)", described)


def link_pages(app: Sphinx, what: str, name: str, of: object, options: object, lines: list[str]) -> None:
    """Turn the pages that a docstring names into links; |r| is an absolute value."""
    lines[:] = [re.sub(r"docs/(\w+)\.md", r":doc:`/\1`", re.sub(r"\|(\w+)\|", r"\|\1\|", line)) for line in lines]


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    shutil.copytree(DOCS / "_ipython", BUILT / "ipython", dirs_exist_ok=True)
    app.connect("source-read", prepare_page)
    app.connect("include-read", prepare_shown)
    app.connect("autodoc-process-docstring", link_pages)
