"""The tutorial's scan in Slicer's module Sample Data: registration, download, cancellation."""

import sys
import threading
import time
from pathlib import Path
from typing import Any

import host
import pytest
from host import sampledata
from host.responsiveness import EventLoopMonitor

pytestmark = pytest.mark.slow


def test_the_sample_is_registered(coralbay: Any) -> None:
    (sample,) = [each for each in host.sample_data if each["sampleName"] == "CoralBayChestCT"][:1]
    assert sample["checksums"].startswith("SHA256:")
    assert sample["uris"].startswith("https://")
    assert Path(sample["thumbnailFileName"]).is_file()
    assert sampledata.categories[sample["category"]] == "CoralBay"


def test_the_sample_is_downloaded_without_blocking_the_event_loop(
    coralbay: Any, scan: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import slicer

    from CoralBayLib.core.errors import StoreError
    from CoralBayLib.demo import sample

    node, _place = scan()
    assert slicer.util.saveNode(node, str(tmp_path / "ct.nii.gz"))
    threads, ticks = [], []

    def fetch(progress: Any, cancel: Any) -> Any:
        threads.append(threading.current_thread())
        end = time.monotonic() + 30
        while monitor.ticks < 10 and time.monotonic() < end:
            time.sleep(0.005)
        ticks.append(monitor.ticks)
        return sample.Sample(tmp_path / "ct.nii.gz", tmp_path / "none", {})

    monkeypatch.setattr(sample, "fetch_sample", fetch)
    button = host.sample_data[0]["customDownloader"]
    with EventLoopMonitor() as monitor:
        loaded = button(None)
    assert threads[0] is not threading.main_thread()
    assert ticks[0] >= 10
    assert loaded.GetName() == "CoralBayChestCT"
    composite = slicer.app.layoutManager().sliceWidget("Red").mrmlSliceCompositeNode()
    assert composite.GetBackgroundVolumeID() == loaded.GetID()
    display = loaded.GetDisplayNode()
    assert (display.GetWindowLevelMin(), display.GetWindowLevelMax(), display.GetAutoWindowLevel()) == (-160, 240, 0)

    def refuse(progress: Any, cancel: Any) -> Any:
        raise StoreError("No connection.")

    monkeypatch.setattr(sample, "fetch_sample", refuse)
    with pytest.raises(StoreError):
        button(None)
    assert "No connection." in host.dialogs.texts("error")[0]


def test_the_download_of_the_sample_is_cancelled(coralbay: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import qt
    import slicer

    from CoralBayLib.demo import sample

    run, started = sample._run, threading.Event()

    def dawdle(_command: Any, folder: Path, cancel: Any) -> Any:
        (folder / "half.whl").write_text("half")
        started.set()
        return run([sys.executable, "-c", "import time; time.sleep(60)"], folder, cancel)

    def shown() -> list[Any]:
        return [each for each in slicer.app.topLevelWidgets() if isinstance(each, qt.QProgressDialog) and each.visible]

    def press_cancel() -> None:
        if not started.is_set():
            qt.QTimer.singleShot(50, press_cancel)
            return
        (dialog,) = shown()
        assert "35 MB" in dialog.labelText
        dialog.findChildren(qt.QPushButton)[0].click()

    monkeypatch.setattr(sample, "_run", dawdle)
    monkeypatch.delenv("CORALBAY_SAMPLE_WHEEL", raising=False)
    nodes = slicer.mrmlScene.GetNumberOfNodes()
    press_cancel()
    assert host.sample_data[0]["customDownloader"](None) is None
    assert slicer.mrmlScene.GetNumberOfNodes() == nodes
    assert host.dialogs.texts() == []
    assert not list((tmp_path / "cache" / "sample").iterdir())
    assert shown() == []
