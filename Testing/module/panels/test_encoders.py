"""Step 1, encoders: from files of the user's own, and from installed packages."""

from pathlib import Path
from typing import Any

import host
import pytest
from host import mouse

from Testing.module.coralbay_fixtures import MODULE
from Testing.module.panels.test_weights import choose, panel

pytestmark = pytest.mark.slow

__all__ = ["panel"]

EXAMPLE = Path(__file__).parents[3] / "Resources" / "Examples" / "my_encoder.py"


def test_an_encoder_from_a_file_is_asked_about_used_remembered_and_forgotten(
    coralbay: Any, panel: Any, driver: Any, tmp_path: Path
) -> None:
    file = tmp_path / "my_encoder.py"
    file.write_bytes(EXAMPLE.read_bytes())
    ui = panel.ui
    assert not ui.forgetEncoderButton.enabled
    # Chosen, but not agreed to.
    host.dialogs.answer(str(file), False)
    mouse.press(ui.addEncoderButton)
    driver.settle()
    assert ui.encoderSelector.findData("my-encoder") < 0
    host.dialogs.answer(str(file), True)
    mouse.press(ui.addEncoderButton)
    driver.settle()
    assert "An encoder file is a program" in host.dialogs.texts("confirm")[-1]
    assert panel.parameters.encoder == "my-encoder"
    assert ui.encoderSelector.currentText == "Texture at three scales"
    assert "not trained" in ui.encoderLabel.text
    mouse.press(ui.computeButton)
    driver.settle()
    assert "ready" in ui.statusLabel.text
    assert coralbay.logic.features.cached(panel.volume).identity["encoder"] == "my-encoder"
    # Another day.
    host.unload_module("CoralBaySlicer")
    again = host.load_module(MODULE)
    selector = again.panel.scan.ui.encoderSelector
    assert selector.itemText(selector.findData("my-encoder")) == "Texture at three scales"
    again.panel.parameters.encoder = "my-encoder"
    # The stored features are found, and step 1 is collapsed.
    host.wait_for(lambda: again.panel.scan.header.collapsed)
    again.panel.scan.header.collapsed = again.panel.scan.ui.advancedBox.collapsed = False
    host.process_events(0.05)
    mouse.press(again.panel.scan.ui.forgetEncoderButton)
    host.wait_for(lambda: again.panel.parameters.encoder == "coralbay" and not again.logic.worker.busy)
    # The library is asked about the encoder chosen now, and must not bring the forgotten one back into the menu.
    host.wait_for(lambda: again.panel.scan.weights._looked_for == "coralbay" and not again.logic.worker.busy)
    assert selector.findData("my-encoder") < 0
    assert again.panel.parameters.encoder == "coralbay"
    assert file.exists()


def test_an_encoder_whose_file_is_gone_is_named_and_can_be_forgotten(panel: Any, driver: Any, tmp_path: Path) -> None:
    from CoralBayLib.encoders import plugins, registry

    file = tmp_path / "my_encoder.py"
    file.write_bytes(EXAMPLE.read_bytes())
    host.dialogs.answer(str(file), True)
    mouse.press(panel.ui.addEncoderButton)
    driver.settle()
    # Another day.
    registry.unregister("my-encoder")
    host.unload_module("CoralBaySlicer")
    file.unlink()
    plugins._files.clear()
    again = host.load_module(MODULE).panel.scan
    again.ui.advancedBox.collapsed = False
    host.wait_for(lambda: not again.logic.worker.busy)
    selector = again.ui.encoderSelector
    assert again.parameters.encoder == "my-encoder"
    assert selector.currentText == "Texture at three scales (file missing)"
    assert str(file) in again.ui.encoderLabel.text
    mouse.press(again.ui.computeButton)
    host.wait_for(lambda: not again.logic.worker.busy)
    assert f"is missing: {file}. Put it back" in host.dialogs.texts("error")[0]
    mouse.press(again.ui.forgetEncoderButton)
    host.wait_for(lambda: selector.findData("my-encoder") < 0 and not again.logic.worker.busy)
    assert "missing" not in again.ui.encoderLabel.text


def test_a_file_that_has_changed_is_not_run(panel: Any, driver: Any, tmp_path: Path) -> None:
    file, ran = tmp_path / "my_encoder.py", tmp_path / "ran"
    file.write_bytes(EXAMPLE.read_bytes())
    host.dialogs.answer(str(file), True)
    mouse.press(panel.ui.addEncoderButton)
    driver.settle()
    file.write_text(f"open({str(ran)!r}, 'w').close()\n" + EXAMPLE.read_text(encoding="utf-8"))
    mouse.press(panel.ui.computeButton)
    driver.settle()
    assert not ran.exists()
    assert host.dialogs.texts("error") == []
    # What had been loaded and stored before is still good; a new session is not given the changed file.
    panel.logic.features.forget()
    panel.logic.features.session._config = None
    panel.refresh()
    driver.open(panel)
    mouse.press(panel.ui.computeButton)
    driver.settle()
    assert not ran.exists()
    assert "has changed since you agreed to run it" in host.dialogs.texts("error")[0]


def test_a_bad_encoder_file_is_told(panel: Any, driver: Any, tmp_path: Path) -> None:
    file = tmp_path / "broken.py"
    file.write_text("1 / 0\n")
    host.dialogs.answer(str(file), True)
    mouse.press(panel.ui.addEncoderButton)
    driver.settle()
    assert "'broken.py' raised ZeroDivisionError in line 1" in host.dialogs.texts("error")[0]
    assert panel.parameters.encoder == "pooling"


def test_encoders_of_installed_packages_join_the_menu(panel: Any, driver: Any, request: pytest.FixtureRequest) -> None:
    from CoralBayLib.encoders import EncoderCard, get_entry, register_encoder, registry

    request.addfinalizer(lambda: registry.unregister("packaged"))
    register_encoder(EncoderCard("packaged", "From a package", "Pip brought it."))(lambda **_: get_entry("pooling").load())
    choose(panel, driver, "astra")
    place = panel.ui.encoderSelector.findData("packaged")
    assert panel.ui.encoderSelector.itemText(place) == "From a package"


def test_license_and_source_are_shown_and_restricted_encoders_are_marked(panel: Any, driver: Any) -> None:
    from CoralBaySlicerCore.setup import encoder_cards

    selector = panel.ui.encoderSelector
    for card in encoder_cards.shipped():
        choose(panel, driver, card.name)
        shown = panel.ui.encoderLabel.text
        assert f"License of the weights: {card.weights_licence}." in shown
        assert f"License of the code: {card.code_licence}." in shown
        assert f'<a href="{card.source}">' in shown and panel.ui.encoderLabel.openExternalLinks
        assert (selector.currentText == card.title) == (not card.restrictions)
        assert ("Restricted:" in shown) == bool(card.restrictions)
    assert selector.itemText(selector.findData("fm-ct")) == ("FM-CT (head CT): non-commercial use only, weights on request")
    choose(panel, driver, "fm-ct")
    assert "Restricted: non-commercial use only, weights on request" in selector.toolTip
