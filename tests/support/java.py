"""Programs in Java, with the packages that they name, as Maven gets them."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path


def with_packages(source: Path, folder: Path) -> Path:
    """A copy of a program at ``folder``, with what its ``pom.xml`` names in ``lib``."""
    shutil.copytree(source, folder)
    maven = ["mvn", "--quiet", "--batch-mode", "dependency:copy-dependencies", "-DoutputDirectory=lib"]
    subprocess.run(maven, cwd=folder, check=True, timeout=300)
    return folder
