"""Compiled loops are kept from one start to the next: a server that compiles at each of them answers seconds later."""

from __future__ import annotations

import os
import subprocess
import sys

from tests.support.fixtures import ROOT

# What has a signature is compiled by the import, and what has none by its first call in another loop.
PROGRAM = """
import importlib, pkgutil
import lakeflight.wire, views

views.warm_up()
for package in (lakeflight.wire, views):
    for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        for name, value in vars(importlib.import_module(found.name)).items():
            if getattr(value, "signatures", None) and value.stats.cache_path is None:
                print(f"{found.name}.{name}")
"""


def test_no_loop_is_compiled_anew_at_every_start() -> None:
    environment = {**os.environ, "NUMBA_CACHE_DIR": os.environ.get("NUMBA_CACHE_DIR", str(ROOT / ".venv" / "kernels"))}
    command = [sys.executable, "-c", PROGRAM]
    # The first may be the one that keeps them.
    subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, check=True)

    ended = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)

    assert ended.stdout == ""
