"""Sentences of the reports of scans that look like this one, in step 3."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import host
import pytest

from Testing.module.panels.test_library_adding import library_folder
from Testing.module.panels.test_library_panel import archive, filled, ready, search, texts

__all__ = ["archive", "filled", "ready"]  # fixtures


@pytest.mark.slow
def test_sentences_stand_below_the_scans_that_were_found(filled: Any, driver: Any, archive: Any, coralbay: Any) -> None:
    from CoralBayLib.library import Library
    from CoralBayLib.library.reports import add_reports

    coralbay.panel.parameters.queryKind = "whole"
    driver.settle()
    assert len(search(filled, driver)) == 2
    assert not filled.ui.sentenceTable.visible
    table = archive.folder / "reports.csv"
    table.write_text('scan,report\nstraight.nii.gz,"No effusion. Clear lungs."\noblique.nrrd,"no effusion"\n')
    library = Library(library_folder())
    add_reports(library.storage, table, library.scans())
    search(filled, driver)
    rows = dict(zip(texts(filled.ui.sentenceTable, 1), texts(filled.ui.sentenceTable, 0), strict=True))
    assert filled.ui.sentenceTable.visible and rows.pop("Clear lungs.") == "1 of 2"
    assert list(rows.values()) == ["2 of 2"]
    assert sorted(rows.popitem()[0].split("\n")) == ["No effusion.", "no effusion"]
    # Not for regions.
    coralbay.panel.parameters.queryKind = "point"
    driver.settle()
    search(filled, driver)
    assert not filled.ui.sentenceTable.visible
    # Damage is said, and the search goes on.
    (Path(library_folder()) / "reports.json").write_text("[]")
    coralbay.panel.parameters.queryKind = "whole"
    driver.settle()
    assert len(search(filled, driver)) == 2 and "damaged" in texts(filled.ui.sentenceTable, 1)[0]
    assert host.dialogs.texts("error") == []
