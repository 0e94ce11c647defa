"""Commands as typed, in this process."""

import sys
import warnings

import pairscape


def run_command(*arguments):
    """Exit status of `pairscape ARGUMENTS` in this process; what it prints goes where a test's output goes."""
    before, sys.argv = sys.argv, ["pairscape", *map(str, arguments)]
    try:
        with warnings.catch_warnings():
            # cyclopts suspects a test that forgot the arguments; they are in sys.argv, as in a shell
            warnings.filterwarnings("ignore", message="Cyclopts application invoked without tokens")
            pairscape.main()
    except SystemExit as end:
        return end.code
    finally:
        sys.argv = before
    return 0


def after_first_word(out):
    """Standard output but for the lines that tell at once what is read."""
    told = ("reading ", "looking at matrix")
    return "".join(line for line in out.splitlines(keepends=True) if not line.startswith(told))
