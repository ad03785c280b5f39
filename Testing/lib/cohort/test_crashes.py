"""Killed, damaged, or by two people at once: what was accepted is never lost, and work goes on."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

import CoralBayLib as cb
from CoralBayLib.cohort import State
from CoralBayLib.cohort import revisions as revisions_module
from CoralBayLib.core.errors import CohortError, StoreError

from .stand_in import NAMES, StandIn, annotate, make_scan


def truth(name):
    return make_scan(int(name.removeprefix("scan")))[1]


def accepted(cohort):
    return {scan.name for scan in cohort.status() if scan.state is State.ACCEPTED}


def probe_record(cohort):
    path = cohort.probe
    return json.loads(path.with_name(path.name.replace(".safetensors", ".json")).read_text())


@pytest.mark.slow
@pytest.mark.parametrize("line", [1, 2, 4, 8, 11])
def test_a_killed_session_is_continued(cohort, line):
    command = [sys.executable, "-m", "Testing.lib.cohort.stand_in", str(cohort.folder)]
    session = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[3])
    seen = [session.stdout.readline().split() for _ in range(line)]
    session.send_signal(signal.SIGKILL)
    seen += [each.split() for each in session.stdout.read().splitlines()]
    session.wait()
    session.stdout.close()
    # Everything that was reported as accepted is there, whole.
    told = {name for verb, name in seen if verb == "accepted"}
    again = cb.Cohort.open(cohort.folder, learner=StandIn())
    assert told <= accepted(again) and len(accepted(again)) <= len(told) + 1
    for name in accepted(again):
        assert np.array_equal(cb.read_segmentation(again.segmentation(name))[0].array, truth(name).array)
    annotate(cohort.folder)
    assert accepted(again) == set(NAMES)
    learned = [name for name, _ in probe_record(cohort)["learned"]]
    assert sorted(learned) == NAMES


@pytest.mark.parametrize("step", ["record", "probe", "probe record"])
def test_a_failure_between_two_files_loses_nothing(cohort, monkeypatch, step):
    cohort.accept("scan0", truth("scan0"))
    real, calls = revisions_module.write_json, []

    def failing(path, document):
        calls.append(path.parent.name)
        if (step, path.parent.name) in [("record", "accepted"), ("probe record", "probe")]:
            raise StoreError("The disk is full.")
        real(path, document)

    monkeypatch.setattr(revisions_module, "write_json", failing)
    if step == "probe":
        monkeypatch.setattr(StandIn, "learn", lambda *_: (_ for _ in ()).throw(StoreError("The disk is full.")))
    with pytest.raises(StoreError):
        cohort.accept("scan1", truth("scan1"))
    monkeypatch.undo()
    again = cb.Cohort.open(cohort.folder, learner=StandIn())
    if step == "record":
        assert accepted(again) == {"scan0"} and [path.name for path in again.unfinished()] == ["scan1.1.seg.nrrd"]
    else:
        assert accepted(again) == {"scan0", "scan1"}
    again.suggest("scan2")
    again.accept("scan1", truth("scan1"))
    assert accepted(again) == {"scan0", "scan1"}


def test_damaged_records_are_named_and_the_rest_goes_on(cohort):
    for name in NAMES[:3]:
        cohort.accept(name, truth(name))
    (cohort.folder / "accepted" / "scan1.1.json").write_text("{")
    status = {scan.name: scan for scan in cohort.status()}
    assert "scan1.1.json is damaged" in status["scan1"].flags[0]
    assert status["scan0"].state is State.ACCEPTED
    assert cohort.next() is not None
    with pytest.raises(CohortError, match="move it away"):
        cohort.suggest("scan3")
    (cohort.folder / "accepted" / "scan1.1.json").rename(cohort.folder / "away.json")
    cohort.suggest("scan3")  # learns anew from the two that are left


def test_a_damaged_segmentation_is_not_learned(cohort):
    plain = cb.Cohort.open(cohort.folder)
    path = plain.accept("scan0", truth("scan0"))
    data = bytearray(path.read_bytes())
    data[-20] ^= 1
    path.write_bytes(data)
    with pytest.raises(CohortError, match="checksum"):
        cohort.suggest("scan1")
    path.unlink()
    with pytest.raises(CohortError, match="is missing"):
        cohort.segmentation("scan0")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        '{"format": 1}',
        '{"format": "1"}',
        '{"format": 1, "name": 3, "structures": [], "encoder": null}',
        "[" * 5000,
    ],
)
def test_a_damaged_cohort_is_named_and_its_copy_restores_it(cohort, text):
    path = cohort.folder / "cohort.json"
    path.write_text(text)
    with pytest.raises(CohortError, match=r"is damaged.*cohort\.copy\.json"):
        cb.Cohort.open(cohort.folder)
    path.write_bytes((cohort.folder / "cohort.copy.json").read_bytes())
    assert len(cb.Cohort.open(cohort.folder).status()) == 8


def test_a_newer_format_and_names_that_lead_elsewhere_are_refused(cohort):
    path = cohort.folder / "cohort.json"
    document = json.loads(path.read_text())
    path.write_text(json.dumps(document | {"format": 2}))
    with pytest.raises(CohortError, match="Update CoralBay"):
        cb.Cohort.open(cohort.folder)
    document["scans"][0]["name"] = "../outside"
    path.write_text(json.dumps(document))
    with pytest.raises(CohortError, match="damaged"):
        cb.Cohort.open(cohort.folder)


def test_two_people_at_once_lose_nothing(cohort):
    errors = []

    def work(names):
        own = cb.Cohort.open(cohort.folder, learner=StandIn())
        try:
            for name in names:
                own.accept(name, truth(name))
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(NAMES[n::2],)) for n in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == [] and accepted(cohort) == set(NAMES)
    cb.Cohort.open(cohort.folder, learner=StandIn())._teaching.teach()
    assert sorted(name for name, _ in probe_record(cohort)["learned"]) == NAMES


@pytest.mark.parametrize(
    "change",
    [{"structures": 3}, {"volume_ml": [1]}, {"patients": "x"}, {"suggestion_dice": {"liver": None}}, {"sha256": 1}, {"by": {}}],
)
def test_a_record_with_a_wrong_field_is_damaged(cohort, change):
    path = cohort.accept("scan0", truth("scan0"))
    record = path.with_name("scan0.1.json")
    record.write_text(json.dumps(json.loads(record.read_text()) | change))
    (status,) = [scan for scan in cohort.status() if scan.name == "scan0"]
    assert "is damaged" in status.flags[0]
    cohort.model_card()
