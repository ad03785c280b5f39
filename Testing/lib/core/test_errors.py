"""Errors carry what can be done about them as data, through pickling too, and every front end has words for it."""

from __future__ import annotations

import pickle
import traceback

import pytest

from CoralBayLib.cli import remedies
from CoralBayLib.core import errors
from CoralBayLib.core.errors import CoralBayError, Remedy

KINDS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, CoralBayError)]


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_keeps_its_remedy_and_details_when_it_is_pickled(kind):
    error = pickle.loads(pickle.dumps(kind("It failed.", remedy=Remedy.INSTALL_PACKAGE, package="ray")))
    assert type(error) is kind
    assert str(error) == "It failed."
    assert error.remedy is Remedy.INSTALL_PACKAGE
    assert error.details == {"package": "ray"}


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_need_not_name_a_remedy(kind):
    error = kind("It failed.")
    assert (error.remedy, error.details) == (None, {})
    assert pickle.loads(pickle.dumps(error)).remedy is None


def test_a_traceback_shows_the_remedy_below_the_message():
    error = errors.VolumeError("Not HU.", remedy=Remedy.ASSUME_HU)
    if not hasattr(error, "add_note"):
        pytest.skip("exceptions have notes from Python 3.11 on")
    assert traceback.format_exception(error)[-1] == Remedy.ASSUME_HU.value + "\n"


def test_the_command_line_words_every_remedy():
    assert set(remedies.WORDS) == set(Remedy)
    options = {
        "json",
        "download",
        "weights",
        "encoder",
        "device",
        "series",
        "assume_hu",
        "patient_column",
        "overwrite",
        "server",
    }
    details = {"encoder": "coralbay", "path": "library", "package": "ray", "reason": "offline"}
    for remedy in Remedy:
        assert remedies.remedy_text(CoralBayError("It failed.", remedy=remedy, **details), options).endswith(
            (".", "'ray'", "1")
        )


def test_details_fill_the_words_of_a_remedy():
    error = CoralBayError("It failed.", remedy=Remedy.INSTALL_PACKAGE, package="ray")
    assert remedies.remedy_text(error, {"json"}) == "Install the package: pip install 'ray'"
    assert CoralBayError("It failed.", remedy=Remedy.INSTALL_PACKAGE).fill("pip install {package}") == "pip install ..."


def test_a_command_is_not_told_of_options_that_it_lacks():
    error = CoralBayError("It failed.", remedy=Remedy.GET_WEIGHTS)
    assert remedies.remedy_text(error, {"json", "download"})
    assert not remedies.remedy_text(error, {"json"})
    assert not remedies.remedy_text(CoralBayError("It failed."), {"json"})
