"""Attentive probes: what averages hide is found, nothing leaks, and maps show where."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import CoralBayLib as cb
from CoralBayLib import scan_probes
from CoralBayLib.core.errors import Cancelled, ProbeError, ScansError
from CoralBayLib.scan_probes.probes import attention
from CoralBayLib.scan_probes.probes.attention_maps import native_maps
from CoralBayLib.scan_probes.probes.calibration import calibrate_classes, calibrate_numbers
from CoralBayLib.scan_probes.tokens import ScanTokens, join_tokens, locations, sample_tokens

LEVELS = (("fine", 8), ("coarse", 12))


@pytest.fixture(autouse=True)
def _short_training(_few_resamples, monkeypatch):
    """Fewer steps and bootstrap samples than a user gets."""
    monkeypatch.setattr(attention, "MAX_STEPS", 80)
    monkeypatch.setattr(scan_probes.metrics, "RESAMPLES", 10)


def small_finding(scans=32, seed=0, share=0.5):
    """Two of forty tokens of a sick scan stand out; the averages of scans differ by more than these tokens."""
    random = np.random.default_rng(seed)
    sick = np.arange(scans) < share * scans
    found = []
    for each in sick:
        fine = random.normal(size=(40, 8)) + 0.4 * random.normal(size=8)
        fine[:2, :4] += 6.0 * each
        found.append((fine.astype(np.float16), random.normal(size=(10, 12)).astype(np.float16)))
    order = random.permutation(scans)
    tokens = ScanTokens(LEVELS, tuple(found))[order]
    return tokens, scan_probes.Labels.of("classification", np.where(sick, "sick", "well")[order], range(scans))


def halves(tokens, labels):
    rows = np.arange(len(tokens))
    return (tokens[rows < len(rows) // 2], labels.take(rows < len(rows) // 2)), (
        tokens[rows >= len(rows) // 2],
        labels.take(rows >= len(rows) // 2),
    )


def test_a_small_finding_is_not_lost_in_an_average():
    (tokens, labels), (others, truth) = halves(*small_finding(64))
    probe = scan_probes.AttentiveProbe().fit(tokens, labels)
    linear = scan_probes.ScanProbe().fit(tokens.means, labels)
    right = (probe.predict(others).argmax(axis=1) == [probe.classes_.index(value) for value in truth.values]).mean()
    averages = (linear.predict(others.means).argmax(axis=1) == [linear.classes_.index(v) for v in truth.values]).mean()
    assert right > 0.9 > averages + 0.1


def test_probabilities_have_the_share_of_a_rare_class():
    """Training gives both classes the same weight; without calibration the mean probability would be near one half."""
    random = np.random.default_rng(5)
    noise = [tuple(random.normal(size=(9, channels)).astype(np.float16) for _, channels in LEVELS) for _ in range(60)]
    values = ["rare" if n % 6 == 0 else "usual" for n in range(60)]
    probe = scan_probes.AttentiveProbe().fit(
        ScanTokens(LEVELS, tuple(noise)), scan_probes.Labels.of("classification", values, range(60))
    )
    probabilities = probe.predict(ScanTokens(LEVELS, tuple(noise)))[:, probe.classes_.index("rare")]
    assert abs(probabilities.mean() - 1 / 6) < 0.06


@pytest.mark.parametrize("task", ["regression", "survival", "three classes"])
def test_other_tasks(task):
    random = np.random.default_rng(1)
    size = random.normal(size=48)
    scans = [
        tuple((random.normal(size=(20, channels)) + np.eye(channels)[0] * value).astype(np.float16) for _, channels in LEVELS)
        for value in size
    ]
    tokens = ScanTokens(LEVELS, tuple(scans))
    if task == "regression":
        labels = scan_probes.Labels.of("regression", 100 + 20 * size, range(48))
    elif task == "survival":
        times = np.exp(-2 * size) + 0.01
        labels = scan_probes.Labels.of("survival", random.random(48) < 0.8, range(48), times)
    else:
        labels = scan_probes.Labels.of("classification", np.digitize(size, [-0.4, 0.4]).astype(str), range(48))
    (part, known), (others, truth) = halves(tokens, labels)
    predicted = scan_probes.AttentiveProbe().fit(part, known).predict(others)
    if task == "regression":
        assert np.corrcoef(predicted, truth.values)[0, 1] > 0.8 and abs(predicted.mean() - 100) < 10
    elif task == "survival":
        assert scan_probes.metrics.concordance(predicted, truth.values, truth.times) > 0.75
    else:
        assert predicted.shape == (24, 3) and np.allclose(predicted.sum(axis=1), 1)
        assert (predicted.argmax(axis=1).astype(str) == truth.values).mean() > 0.6


def test_the_same_seed_gives_the_same_probe_and_another_order_of_levels_is_refused():
    tokens, labels = small_finding(16)
    one, two = (scan_probes.AttentiveProbe().fit(tokens, labels, seed=3).predict(tokens) for _ in range(2))
    assert np.array_equal(one, two)
    turned = ScanTokens(LEVELS[::-1], tuple(scan[::-1] for scan in tokens.scans))
    with pytest.raises(ProbeError, match="other levels"):
        scan_probes.AttentiveProbe().fit(tokens, labels).predict(turned)


@pytest.mark.slow
def test_memorized_patients_do_not_improve_the_metrics():
    """Labels depend on the patient and are unrelated to the tokens: a split by scans would reach an AUROC near 1."""
    random = np.random.default_rng(2)
    scans = []
    for _ in range(16):
        own = [random.normal(size=channels) for _, channels in LEVELS]
        for _ in range(3):
            scans.append(tuple((mean + 0.1 * random.normal(size=(8, len(mean)))).astype(np.float16) for mean in own))
    sick = np.repeat(np.arange(16) % 2 == 0, 3)
    labels = scan_probes.Labels.of("classification", np.where(sick, "sick", "well"), np.repeat(np.arange(16), 3))
    tokens = ScanTokens(LEVELS, tuple(scans))
    found = scan_probes.cross_validate(tokens, labels, make=scan_probes.AttentiveProbe)
    assert 0.15 < found.metrics["AUROC"].value < 0.85
    shuffled = scan_probes.Labels.of("classification", labels.values, np.arange(48).astype(str))
    leaking = scan_probes.cross_validate(tokens, shuffled, make=scan_probes.AttentiveProbe)
    assert leaking.metrics["AUROC"].value > 0.9


def test_early_stopping_sees_no_patient_of_the_test_part(monkeypatch):
    """The rows that stop a training are of other patients than its rows, and never of the outer test part."""
    tokens, labels = small_finding(24)
    labels = scan_probes.Labels.of("classification", labels.values, np.arange(24) // 2)
    seen, fits = [], []
    train = attention.train

    def watched(batch, spreads, outputs, loss, rows, held_out, *others):
        seen.append((len(fits), rows, held_out, len(batch.log_weights)))
        return train(batch, spreads, outputs, loss, rows, held_out, *others)

    class Watched(scan_probes.AttentiveProbe):
        def fit(self, inputs, known, seed=0):
            fits.append(known.patients)
            return super().fit(inputs, known, seed)

    monkeypatch.setattr("CoralBayLib.scan_probes.probes.attentive.attention.train", watched)
    found = scan_probes.cross_validate(tokens, labels, folds=3, make=Watched)
    assert len(fits) == 3 and len(seen) >= 6
    for fold, patients in enumerate(fits):
        assert not set(patients) & set(labels.patients[found.fold == fold])
    for number, rows, held_out, scans in seen:
        patients = fits[number - 1]
        assert scans == len(patients) and not set(patients[rows]) & set(patients[held_out])


def test_one_image_under_two_patients_is_refused():
    tokens, labels = small_finding(16)
    twice = join_tokens([tokens[np.arange(15)], tokens[np.array([2])]])
    with pytest.raises(ScansError, match="same image is listed"):
        scan_probes.cross_validate(twice, labels, make=scan_probes.AttentiveProbe)


def test_one_class_is_refused_and_training_can_be_cancelled():
    tokens, labels = small_finding(12)
    one = scan_probes.Labels.of("classification", ["sick"] * 12, range(12))
    with pytest.raises(ScansError, match="All scans have the class 'sick'"):
        scan_probes.AttentiveProbe().fit(tokens, one)
    cancel = cb.CancelToken()
    cancel.cancel()
    with pytest.raises(Cancelled):
        scan_probes.AttentiveProbe(cancel).fit(tokens, labels)


def test_a_loaded_probe_predicts_the_same(tmp_path):
    tokens, labels = small_finding(16)
    probe = scan_probes.AttentiveProbe().fit(tokens, labels)
    probe.save(tmp_path / "probe.safetensors", "sig", "finding")
    again = scan_probes.load_scan_probe(tmp_path / "probe.safetensors")
    assert isinstance(again, scan_probes.AttentiveProbe)
    assert np.array_equal(again.predict(tokens), probe.predict(tokens))
    assert (again.signature, again.target, again.levels_) == ("sig", "finding", LEVELS)
    with pytest.raises(ProbeError, match="another encoder"):
        again.require_fit("other")
    with pytest.raises(ProbeError, match="There is no scan probe"):
        scan_probes.load_scan_probe(tmp_path / "gone.safetensors")


@pytest.fixture
def bright_spots(make_grid, make_phantom, pooling):
    """Scans with a small bright spot at different places, and scans without."""
    random, encoder = np.random.default_rng(0), pooling((4, 8))
    places = [np.array([12.0, -30.0, 45.0]) + random.uniform(-15, 15, 3) for _ in range(10)]
    volumes = [make_phantom(make_grid(), [(p, 4.0, 900.0)] if n % 2 else [], seed=n) for n, p in enumerate(places)]
    pyramids = [cb.embed(volume, encoder) for volume in volumes]
    tokens = join_tokens([sample_tokens(pyramid) for pyramid in pyramids])
    labels = scan_probes.Labels.of("classification", ["spot" if n % 2 else "none" for n in range(10)], range(10))
    probe = scan_probes.AttentiveProbe().fit(tokens, labels.with_positive("spot"))
    probe.signature = pyramids[0].signature
    return places, pyramids, probe


def test_maps_show_the_finding(bright_spots):
    places, pyramids, probe = bright_spots
    for number in (1, 5):
        inside = pyramids[number].body.array > 0
        for found in (
            scan_probes.attention_map(pyramids[number], probe),
            scan_probes.saliency_map(pyramids[number], probe),
        ):
            assert found.grid.same_as(pyramids[number].grid)
            assert found.nearest_values(places[number][None])[0] > np.percentile(found.array[inside], 95)


def test_means_of_the_map_are_the_prediction(bright_spots):
    """The mean over a level's tokens is what the level adds; with all tokens, the sum is the output."""
    _, pyramids, probe = bright_spots
    masks = [locations(level, pyramids[3].body) for level in pyramids[3].levels]
    added = sum(
        float(native[0][torch.from_numpy(mask)].mean())
        for (native, _), mask in zip(native_maps(pyramids[3], probe, 0), masks, strict=True)
    )
    output = probe.decision_function(sample_tokens(pyramids[3], most=10**6))[0, 0]
    assert added + float(probe.bias_[0]) == pytest.approx(output, abs=1e-3)
    shares = [
        float(native[0][torch.from_numpy(mask)].mean())
        for (native, _), mask in zip(native_maps(pyramids[3], probe, None), masks, strict=True)
    ]
    assert sum(shares) == pytest.approx(1, abs=1e-4)


def test_tokens_lie_in_the_body_and_are_drawn_the_same_way(make_grid, make_phantom, pooling):
    pyramid = cb.embed(make_phantom(make_grid("oblique")), pooling((2, 8)))
    mask = locations(pyramid.levels[0], pyramid.body)
    centers = pyramid.levels[0].grid.to_ras(np.argwhere(mask)[:, ::-1])
    assert (pyramid.body.nearest_values(centers) > 0).all()
    tokens, again = sample_tokens(pyramid), sample_tokens(pyramid)
    assert tokens.scans[0][0].shape == (256, 5) and len(tokens.scans[0][1]) < 256
    assert all(np.array_equal(a, b) for a, b in zip(tokens.scans[0], again.scans[0], strict=True))


def test_calibration_restores_shares_and_scale():
    random = np.random.default_rng(0)
    logit = random.normal(size=4000)
    truth = (random.random(4000) < 1 / (1 + np.exp(-(2.0 * logit - 1.0)))).astype(int)
    scale, shift = calibrate_classes(logit[:, None], truth, np.array([0.5, 0.5]))
    assert scale == pytest.approx(2.0, rel=0.15) and shift[0] == pytest.approx(-1.0, abs=0.15)
    assert calibrate_classes(np.empty((0, 1)), np.empty(0, int), np.array([0.8, 0.2]))[1][0] == pytest.approx(np.log(0.25))
    numbers = random.normal(size=500)
    scale, shift = calibrate_numbers(numbers, 0.5 * numbers + 3)
    assert (scale, shift) == (pytest.approx(0.5, abs=0.02), pytest.approx(3, abs=0.02))
    assert calibrate_numbers(numbers, -numbers)[0] == 0
