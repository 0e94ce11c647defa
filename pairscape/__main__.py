"""`python -m pairscape`: the command line."""

from pairscape.command_line import main

if __name__ == "__main__":
    main()
