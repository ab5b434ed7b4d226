"""Processes of the server's own that are Python programs again: how each is started, wherever the server lies.

Neither the current folder nor a user's ``PYTHONPATH`` comes before the server's own folders: there may be a ``server.py``
in both.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

_HOME: Final = Path(__file__).resolve().parents[1]  # of the folder server, in a checkout or inside an installed package


def own_program(module: str, *arguments: str) -> list[str]:
    """The command that runs a module of the server; to be run with ``import_path``."""
    return [sys.executable, "-P", "-m", module, *arguments]


def import_path(environment: Mapping[str, str]) -> dict[str, str]:
    """The variable that lets Python find the server's modules first, then what ``environment`` names."""
    path = [str(_HOME), *filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))]
    return {"PYTHONPATH": os.pathsep.join(dict.fromkeys(path))}
