"""`python -m pairscape`, and the console script: the command line, unless a file of the user's breaks its import."""

import sys

from pairscape.garbage import end_at_once, look_rarely
from pairscape.interrupt import ended_by_interrupt


def main() -> None:
    """Run the command line; an import that a file of the user's breaks is one line, exit status 2."""
    look_rarely()
    try:
        with ended_by_interrupt():  # also while it is imported
            _run()
    finally:
        end_at_once()


def _run() -> None:
    try:
        from pairscape.command_line import main as command_line
    except Exception as error:  # whatever the file in the place of a library does
        from pairscape.surroundings import hiding_file

        if (told := hiding_file(error)) is None:
            raise
        print("pairscape:", told, file=sys.stderr)
        sys.exit(2)
    command_line()


if __name__ == "__main__":
    main()
