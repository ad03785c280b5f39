"""What the tests of the module share: the module itself, phantoms, and encoders that are quick."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import host
import numpy as np
import pytest
from host import mouse

MODULE = Path(__file__).parents[2] / "CoralBaySlicer" / "CoralBaySlicer.py"

__all__ = ["MODULE", "checkpoint", "coralbay", "driver", "pooling_encoder", "ready", "scan"]


@pytest.fixture
def pooling_encoder() -> Iterator[str]:
    """The name of a registered encoder that takes next to no time; it can be told to be slow or to fail."""
    from CoralBayLib.encoders import EncoderCard, encoder_names, register_encoder, registry
    from Testing.lib.conftest import PoolingEncoder

    if "pooling" not in encoder_names():

        @register_encoder(EncoderCard("pooling", "Pooling", "For tests."))
        def load(weights=None, device="cpu", consent=None, *, setting=None) -> Any:
            return PoolingEncoder((2, 4, 8), (3.0, 3.0, 3.0))

    yield "pooling"
    registry.unregister("pooling")


@pytest.fixture(scope="session")
def checkpoint(app: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CoralBay checkpoint of a quarter of the width with random weights."""
    from CoralBaySlicerCore.selftest import write_random_checkpoint

    path = tmp_path_factory.mktemp("weights") / "small.safetensors"
    write_random_checkpoint(path)
    return path


@pytest.fixture
def coralbay(app: Any, pooling_encoder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The module, selected, with the quick encoder chosen and a cache of its own."""
    import qt

    monkeypatch.setenv("CORALBAY_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    qt.QSettings().remove("CoralBaySlicer")
    widget = host.load_module(MODULE)
    widget.panel.parameters.encoder = pooling_encoder
    host.process_events(0.02)
    yield widget
    host.unload_module("CoralBaySlicer")


@pytest.fixture
def scan(app: Any) -> Callable[..., tuple[Any, np.ndarray]]:
    """Makes a phantom volume, shown in the views; returns the node and the centre of its first ball, RAS mm."""

    def make(ijk_to_ras: np.ndarray | None = None, name: str = "CT", seed: int = 0) -> tuple[Any, np.ndarray]:
        import slicer
        from CoralBaySlicerCore.selftest import make_phantom

        node, place = make_phantom(ijk_to_ras, name, seed)
        slicer.util.setSliceViewerLayers(background=node, fit=True)
        return node, place

    return make


@pytest.fixture
def driver(coralbay: Any) -> SimpleNamespace:
    """The ways a person works with the panel."""
    panel = coralbay.panel

    def idle() -> bool:
        timers = (panel._refresh_timer, panel.segment.few_shot._timer)
        workers = (coralbay.logic.worker, coralbay.logic.reader)
        return not any(each.busy for each in workers) and not any(timer.active for timer in timers)

    def settle(timeout: float = 30) -> None:
        host.process_events()
        host.wait_for(idle, timeout)

    def embed(node: Any) -> None:
        panel.scan.ui.volumeSelector.setCurrentNode(node)
        settle()
        if panel.scan.ui.computeButton.enabled:
            host.mouse.press(panel.scan.ui.computeButton)
        settle()
        assert coralbay.logic.features.cached(node) is not None, host.dialogs.texts()

    def open_panel(part: Any) -> None:
        import ctk

        for name, widget in vars(part.ui).items():
            if type(widget) in (ctk.ctkCollapsibleButton, ctk.ctkCollapsibleGroupBox) and name:
                widget.collapsed = False
        # Until it is laid out, a click misses it.
        host.process_events(0.05)

    return SimpleNamespace(settle=settle, embed=embed, open=open_panel)


@pytest.fixture
def ready(coralbay: Any, driver: Any, scan: Any) -> Any:
    """The panel with an embedded axial scan and one structure, in place mode."""
    node, place = scan()
    driver.embed(node)
    mouse.press(coralbay.panel.segment.ui.addStructureButton)
    return node, place, coralbay.panel.segment
