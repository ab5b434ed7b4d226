"""The command ``lakeflight`` on a machine that runs no server: the commands of the library alone."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from lakeflight.commands.query import add_query_command

__all__ = ["add_query_command", "main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; its exit code."""
    parser = argparse.ArgumentParser(prog="lakeflight")
    add_query_command(parser.add_subparsers(dest="command", required=True))
    args = parser.parse_args(arguments)
    code: int = args.run(args)
    return code


if __name__ == "__main__":
    sys.exit(main())
