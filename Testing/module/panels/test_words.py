"""Step 3: search by words, with small random weights of COLIPRI."""

from pathlib import Path
from typing import Any

import host
import numpy as np
import pytest
from host import mouse

pytestmark = pytest.mark.slow


@pytest.fixture
def panel(coralbay: Any, driver: Any) -> Any:
    driver.open(coralbay.panel.similar)
    return coralbay.panel.similar


@pytest.fixture
def colipri(coralbay: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """COLIPRI is chosen, with windows that fit the phantom."""
    pytest.importorskip("tokenizers", reason="the extra 'text' is not installed")
    import make_colipri_fixture as fixture
    import small_colipri

    from CoralBayLib.encoders import colipri as module

    monkeypatch.setattr(module, "SIDE", fixture.SIDE)
    monkeypatch.setenv("COLIPRI_WEIGHTS", str(small_colipri.write_checkpoint(tmp_path)))
    monkeypatch.delenv("COLIPRI_VOCABULARY", raising=False)
    coralbay.panel.parameters.encoder = "colipri"
    coralbay.panel.parameters.setting = ""
    host.process_events(0.05)


def test_other_encoders_say_why_they_cannot(panel: Any, scan: Any, driver: Any) -> None:
    node, _place = scan()
    driver.embed(node)
    panel.refresh()
    assert not panel.ui.wordsEdit.enabled and not panel.ui.wordsButton.enabled
    assert "trained with reports" in panel.ui.wordsLabel.text and "COLIPRI" in panel.ui.wordsLabel.text


def test_words_show_where_they_fit_the_scan(panel: Any, colipri: None, scan: Any, driver: Any, coralbay: Any) -> None:
    from CoralBaySlicerCore.scene import overlays
    from CoralBaySlicerCore.scene.overlays import Owner

    node, _place = scan()
    driver.embed(node)
    panel.refresh()
    assert panel.ui.wordsButton.enabled and not panel.ui.wordsLabel.text and not panel.ui.wordsMapCheck.enabled
    panel.ui.wordsEdit.text = "pleural effusion"
    mouse.press(panel.ui.wordsButton)
    driver.settle()
    assert host.dialogs.texts("error") == []
    maps = coralbay.logic.overlays
    assert maps.owner is Owner.WORDS and maps.shown == overlays.WORDS and panel.ui.wordsMapCheck.checked
    percent = panel.words._maps[node.GetID()].percent
    assert percent.max() == 100 and len(np.unique(percent)) > 10
    mouse.press(panel.ui.wordsMapCheck)
    host.process_events()
    assert maps.owner is Owner.PREVIEW and maps.shown is None
    panel.ui.wordsEdit.text = " "
    mouse.press(panel.ui.wordsButton)
    driver.settle()
    assert "Write what to look for" in host.dialogs.texts("error")[-1]


def test_words_rank_the_scans_of_a_library(
    panel: Any, colipri: None, scan: Any, driver: Any, coralbay: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from CoralBaySlicerCore.work.library import tasks as scan_library

    import CoralBayLib as cb
    from CoralBayLib.library import Library
    from Testing.lib.library.conftest import make_scan

    folder = tmp_path / "scans"
    folder.mkdir()
    for name in "ab":
        cb.write_volume(make_scan(name), folder / f"{name}.nrrd")
    encoder = cb.load_encoder("colipri", device="cpu")
    Library(tmp_path / "library").add(folder, encoder)
    monkeypatch.setattr(scan_library, "folder", lambda: str(tmp_path / "library"))
    panel.parameters.scope = "library"
    host.process_events(0.05)
    panel.refresh()
    assert panel.ui.wordsButton.enabled, "a library needs no scan"
    panel.ui.wordsEdit.text = "lung nodules"
    mouse.press(panel.ui.wordsButton)
    driver.settle()
    assert host.dialogs.texts("error") == []
    expected = Library(tmp_path / "library").search_text("lung nodules", encoder)
    assert [hit.path for hit in panel.library.table.hits] == [hit.path for hit in expected]
    assert len(expected) == 2
