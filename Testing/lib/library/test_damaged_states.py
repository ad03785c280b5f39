"""Damaged manifests: earlier states of a table that nobody can read any more, and the newest one."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path

import pytest

from CoralBayLib.core.errors import Remedy, StoreError
from CoralBayLib.library import Library
from CoralBayLib.library.storage.lance_errors import explain_compacting

pytestmark = pytest.mark.slow

pytest.importorskip("lancedb", reason="a library of scans needs LanceDB")

DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "lost": lambda _data: b"",
    "cut": lambda data: data[: len(data) // 2],
    "no end": lambda data: data[:-4] + bytes(4),
    "zeros in the middle": lambda data: data[:-120] + bytes(60) + data[-60:],
    "other bytes": lambda data: bytes(each ^ 0x55 for each in data),
}


def manifests(library: Library, table: str) -> list[Path]:
    """The newest first."""
    return sorted((library.storage.root / f"{table}_pooling.lance" / "_versions").glob("*.manifest"))


@pytest.fixture
def two(library, scans, encoder):
    """A library to which two of the three scans were added one after the other."""
    for name in "ab":
        library.add(scans / f"{name}.nrrd", encoder)
    assert len(manifests(library, "regions")) > 2
    return library


@pytest.mark.parametrize("table", ["regions", "scans"])
@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_earlier_state_is_told_and_removed_by_the_next_change(two, scans, encoder, table, damage):
    path = manifests(two, table)[1]
    path.write_bytes(damage(path.read_bytes()))
    (issue,) = two.verify()
    assert (issue.kind, issue.harmful, issue.remedy) == ("states", False, Remedy.REPAIR_LIBRARY)
    assert issue.text == f"Damaged earlier states of the table '{table}': 1. Searches do not use them."
    assert [outcome.state for outcome in two.add(scans, encoder)].count("added") == 1
    assert not path.exists()
    assert two.verify() == []
    assert len(two.scans()) == 3


def test_a_repair_removes_damaged_earlier_states(two):
    for table in ("regions", "scans"):
        for path in manifests(two, table)[1:]:
            path.write_bytes(b"nonsense")
    (first, second) = two.verify(repair=True)
    assert (first.kind, first.repaired, second.kind, second.repaired) == ("states", True, "states", True)
    assert two.verify() == []
    assert len(two.scans()) == 2


@pytest.mark.parametrize("table", ["regions", "scans"])
def test_a_damaged_newest_state_costs_its_last_change_only(two, scans, encoder, table):
    path = manifests(two, table)[0]
    path.write_bytes(path.read_bytes()[:-9])
    assert {(issue.kind, issue.harmful) for issue in two.verify()} == {("table", True)}
    repaired = two.verify(repair=True)
    assert repaired[0].text.startswith(f"Damaged states of the table '{table}': 1. The newest is among them")
    assert not any(issue.harmful for issue in repaired)
    # The last change was a compaction, which removes nothing.
    assert len(two.scans()) == 2
    two.add(scans, encoder)
    assert two.verify() == []
    assert len(two.scans()) == 3


def test_only_a_full_disk_is_called_one():
    for error, full in (
        (OSError(errno.ENOSPC, "No space left on device"), True),
        (
            RuntimeError("LanceError(IO): LocalFileSystem error: No space left on device (os error 28)"),
            True,
        ),
        (RuntimeError("lance error: Encountered corrupt file x.manifest"), False),
    ):
        with pytest.raises(StoreError) as caught, explain_compacting():
            raise error
        assert ("disk" in str(caught.value).replace("left on device", "")) == full
        assert caught.value.remedy is (None if full else Remedy.CHECK_LIBRARY)
