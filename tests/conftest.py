"""What holds for all tests: which of them run.

``--all`` adds those that need more than Python: ``@pytest.mark.needs("go")`` names a program or ``registry``. What is
absent then skips its tests, each with one line that says what was missing.
"""

from __future__ import annotations

import shutil
import signal

import pytest

REGISTRY = "registry"  # a package registry that pip reaches

# A background job of a shell ignores these, and its children inherit that; those of the tests are to be ended by them.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--all", action="store_true", help="also run what needs other toolchains or a package registry")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    wanted = {item: [name for mark in item.iter_markers("needs") for name in mark.args] for item in items}
    if not config.getoption("--all"):
        left_out = [item for item in items if wanted[item]]
        if left_out:
            config.hook.pytest_deselected(items=left_out)
            items[:] = [item for item in items if not wanted[item]]
        return
    for item in items:
        for name in wanted[item]:
            if name != REGISTRY and shutil.which(name) is None:  # scripts/test puts what was built on the path
                item.add_marker(pytest.mark.skip(reason=f"{name} is not installed"))
