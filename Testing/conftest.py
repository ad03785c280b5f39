"""What all tests share: how they are spread over processes, and which of them are slow."""

from __future__ import annotations

import locale
import os
from collections import Counter
from collections.abc import Iterator

import pytest

_MAX_WORKERS = 4
"""Each process of the tests takes about 2 GB of memory."""
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS", "RAYON_NUM_THREADS")

if "PYTEST_XDIST_WORKER" in os.environ:
    # Set here, since the libraries read it when they load: processes that each use every core slow each other down.
    _share = max(1, (os.cpu_count() or 1) // int(os.environ["PYTEST_XDIST_WORKER_COUNT"]))
    os.environ.update(dict.fromkeys(_THREADS, str(_share)))

_deselected: list[int] = []


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int | None:
    """As many processes as cores, within reason; the variable of pytest-xdist says otherwise."""
    if "PYTEST_XDIST_AUTO_NUM_WORKERS" in os.environ:
        return None
    return min(_MAX_WORKERS, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with the most slow tests first: what begins last should be short."""
    slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
    items.sort(key=lambda item: -slow[item.path])


@pytest.fixture(autouse=True)
def same_locale() -> Iterator[None]:
    """ITK leaves the C locale behind, in which Python reads what another program prints as ASCII."""
    before = locale.setlocale(locale.LC_ALL)
    yield
    locale.setlocale(locale.LC_ALL, before)


def pytest_deselected(items: list[pytest.Item]) -> None:
    _deselected.append(len(items))


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["deselected"] = sum(_deselected)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: object) -> None:
    # Every process collects, and deselects, the same tests.
    _deselected[:] = [getattr(node, "workeroutput", {}).get("deselected", 0)]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if _deselected and sum(_deselected) and config.getoption("numprocesses", None):
        terminalreporter.write_line(f"{sum(_deselected)} tests were left out (-m {config.option.markexpr!r})")
