"""The program `harness`, the same as `python -m harness.cli`."""

import sys


def main() -> None:
    """Run the command line; Ctrl-C while it is imported ends it without a traceback."""
    try:
        from harness.cli.main import main as program
    except KeyboardInterrupt:
        sys.exit(130)
    program(prog_name="harness")


if __name__ == "__main__":
    main()
