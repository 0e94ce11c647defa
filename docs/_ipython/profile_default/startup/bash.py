"""What `%%bash` does in the tutorials: one output in the order of a terminal; a command that fails fails the build."""

import os
import subprocess

from IPython.core.magic import register_cell_magic

COLOURS = ("FORCE_COLOR", "CLICOLOR_FORCE")  # of the kernel, by which programs believe that a terminal reads them


@register_cell_magic
def bash(line: str, cell: str) -> None:
    """Run a cell in bash."""
    environment = {name: value for name, value in os.environ.items() if name not in COLOURS}
    done = subprocess.run(
        ["bash", "-e"], input=cell, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    print(done.stdout, end="")
    done.check_returncode()
