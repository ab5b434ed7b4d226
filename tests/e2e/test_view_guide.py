"""A stranger adds a view by the guide: what CONTRIBUTING shows, put into a copy of the tree, is there to be asked."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from tests.support.fixtures import ROOT
from tests.support.programs import Program
from tests.support.serving import serving

FOLDERS = ("lakeflight", "lakeflight_server", "lakehouse", "migrations", "server", "views")


def test_a_stranger_adds_a_view_by_the_guide_with_one_file_and_its_line(tmp_path: Path) -> None:
    tree, program = tmp_path / "tree", Program()
    for folder in FOLDERS:
        shutil.copytree(ROOT / folder, tree / folder, ignore=shutil.ignore_patterns("__pycache__"))
    guide = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    ((path, text),) = re.findall(r"`(views/[a-z_]+\.py)`:\n\n```python\n(.*?)```", guide, re.DOTALL)
    (line,) = re.findall(r"The line in `default_registry`: `(.+)`", guide)
    (tree / path).write_text(text, encoding="utf-8")
    offer = tree / "views" / "__init__.py"
    module, name = Path(path).stem, re.search(r"\((\w+)\(", line)
    assert name is not None
    listed = offer.read_text().replace("BlocksSource(LogEntries()),", f"BlocksSource(LogEntries()),\n{line}", 1)
    offer.write_text(listed.replace("\n\n__all__", f"\nfrom views.{module} import {name[1]}\n\n__all__", 1))

    # Kernels are kept by where their source lies: compiling those of the copy would take longer than all the rest.
    environment = {"PYTHONPATH": str(tree), "NUMBA_DISABLE_JIT": "1"}
    with serving(tmp_path / "lake", tree=tree, environment=environment) as server:
        server.replay([*program.registration(), program.log_block(3)])
        rows = server.query(f"SELECT * FROM view_instance('log_levels', '{program.process_id}')")
        counted = server.query("SELECT exe, level, count(*) AS lines FROM log_levels GROUP BY ALL").to_pylist()

    assert (rows.column_names, rows.num_rows) == (["time", "exe", "level"], 3)
    assert counted == [{"exe": "made-up", "level": 4, "lines": 3}]
