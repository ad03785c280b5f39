"""Schedules, and settings that cannot be used."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace

import pytest

from CoralBayLib.core.errors import TrainingError
from CoralBayLib.pretraining.schedules import scheduled
from CoralBayLib.pretraining.settings import Settings

SETTINGS = Settings(steps=100, batch=64, lr_warmup=0.1, temperature_warmup=0.3, teacher_temperature=(0.04, 0.07))


def test_the_values_at_the_beginning_the_middle_and_the_end():
    first, risen, middle, last = (scheduled(SETTINGS, step) for step in (0, 9, 55, 99))
    assert first.lr == 0
    assert risen.lr == pytest.approx(0.004 * (64 / 1024) ** 0.5)
    assert middle.lr == pytest.approx((SETTINGS.peak_lr + SETTINGS.min_lr) / 2)
    assert SETTINGS.min_lr < last.lr < 2e-6
    assert (first.momentum, first.weight_decay, first.temperature) == pytest.approx((0.996, 0.04, 0.04))
    assert last.momentum == pytest.approx(1.0, abs=1e-5)
    assert last.weight_decay == pytest.approx(0.4, abs=1e-3)
    assert scheduled(SETTINGS, 29).temperature == last.temperature == 0.07
    assert 0.04 < scheduled(SETTINGS, 15).temperature < 0.07
    assert first.prototypes_fixed and not scheduled(SETTINGS, 1).prototypes_fixed


def test_momentum_and_temperature_never_fall():
    values = [scheduled(SETTINGS, step) for step in range(100)]
    for one, following in itertools.pairwise(values):
        assert following.momentum >= one.momentum
        assert following.temperature >= one.temperature


def test_settings_survive_json():
    assert Settings.from_dict(json.loads(json.dumps(SETTINGS.as_dict()))) == SETTINGS


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"global_size": 100}, "multiple of 8"),
        ({"local_size": 32}, "40 or more"),
        ({"local_size": 112}, "not larger"),
        ({"feature_size": 20}, "multiple of 12"),
        ({"steps": 0}, "1 or more"),
        ({"init": "coralbay"}, "form of coralbay"),
        ({"lr": -1.0}, "learning rate"),
        ({"teacher_temperature": (0.04, 0.2)}, "teacher temperature"),
        ({"centering": "none"}, "mean, sinkhorn"),
    ],
)
def test_settings_that_cannot_be_used_are_named(change, words):
    with pytest.raises(TrainingError, match=words):
        replace(SETTINGS, **change)


def test_settings_of_another_version_are_refused():
    with pytest.raises(TrainingError, match="another version"):
        Settings.from_dict({**SETTINGS.as_dict(), "more": 1})
