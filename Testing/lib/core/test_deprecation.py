"""Old names work for one more release, and say what to use instead."""

from __future__ import annotations

import sys

import pytest

from CoralBayLib.core import deprecation


class Thing:
    def __init__(self):
        self.new = 1

    def compute(self):
        return 2

    old = deprecation.deprecated_attribute("old", "new")
    reckon = deprecation.deprecated_attribute("reckon", "compute")


def renewed(a, b=0):
    return a + b


def test_an_attribute_or_method_under_its_old_name():
    thing = Thing()
    with pytest.warns(
        DeprecationWarning, match=r"^Thing\.old is called new now; Thing\.old goes in the next release\.$"
    ) as caught:
        assert thing.old == 1
    assert caught[0].filename == __file__
    with pytest.warns(DeprecationWarning, match=r"Thing\.old"):
        thing.old = 5
    assert thing.new == 5
    with pytest.warns(DeprecationWarning, match="compute"):
        assert thing.reckon() == 2


def test_a_function_under_its_old_name():
    old = deprecation.deprecated_function("old", renewed)
    with pytest.warns(DeprecationWarning, match="old is called renewed now") as caught:
        assert old(1, b=2) == 3
    assert caught[0].filename == __file__


def test_a_parameter_under_its_old_name():
    function = deprecation.deprecated_parameters(c="b")(renewed)
    with pytest.warns(DeprecationWarning, match="argument c is called b now") as caught:
        assert function(1, c=2) == 3
    assert caught[0].filename == __file__
    assert function(1, b=4) == 5
    with pytest.raises(TypeError, match="old name"):
        function(1, b=2, c=3)


def test_a_name_of_a_module():
    get = deprecation.deprecated_names(__name__, {"old": "renewed"})
    sys.modules.setdefault(__name__, sys.modules[renewed.__module__])
    with pytest.warns(DeprecationWarning, match="renewed"):
        assert get("old") is renewed
    with pytest.raises(AttributeError, match="nothing_at_all"):
        get("nothing_at_all")
