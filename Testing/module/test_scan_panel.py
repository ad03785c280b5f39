"""Step 1: the module's life, and embeddings computed, stored, cancelled and refused."""

import sys
from typing import Any

import host
import pytest
from host import mouse


def test_embeddings_are_computed_and_found_again(coralbay: Any, driver: Any, scan: Any) -> None:
    node, _place = scan()
    ui = coralbay.panel.scan.ui
    assert not ui.computeButton.enabled
    ui.volumeSelector.setCurrentNode(node)
    driver.settle()
    assert "Not computed" in ui.statusLabel.text
    mouse.press(ui.computeButton)
    driver.settle()
    assert "ready" in ui.statusLabel.text
    assert not ui.computeButton.enabled
    assert "CPU" in ui.deviceLabel.text
