"""Folders of labeled patients: names of structures, data sets of nnU-Net, results of an evaluation, and cohorts."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np

import CoralBayLib as cb
from CoralBayLib.evaluation.agreement import Agreement
from CoralBayLib.evaluation.results import Result, ResultFile
from CoralBayLib.imaging.grid import Volume
from CoralBayLib.imaging.patients import find_patients, read_labels

from .edits import edited_json
from .images import scan
from .kinds import Build, Input, of_volume


def _labels() -> Volume:
    return Volume((scan().array > 100).astype(np.uint8), scan().grid)


def _read(folder: Path) -> list[Any]:
    found = find_patients(folder)
    read = [read_labels(patient) for patient in found.patients]
    return [[of_volume(each.labelmap), sorted(each.names.items())] for each in read]


def names(folder: Path) -> Input:
    """A patient's list of names."""
    own = folder / "patients" / "one"
    own.mkdir(parents=True)
    cb.write_volume(scan(), own / "ct.nrrd")
    cb.write_volume(_labels(), own / "labels.nrrd")
    (own / "labels.json").write_text(json.dumps({"1": "Läsion", "2": "liver"}, indent=1), encoding="utf-8")
    return Input([own / "labels.json"], lambda: _read(own.parent), {None: (edited_json,)})


def dataset(folder: Path) -> Input:
    """The description of a data set of nnU-Net."""
    own = folder / "Dataset001"
    for part, name, volume in (("imagesTr", "a_0000.nrrd", scan()), ("labelsTr", "a.nrrd", _labels())):
        (own / part).mkdir(parents=True)
        cb.write_volume(volume, own / part / name)
    described = {
        "channel_names": {"0": "CT"},
        "labels": {"background": 0, "liver": 1},
        "numTraining": 1,
        "file_ending": ".nrrd",
    }
    (own / "dataset.json").write_text(json.dumps(described, indent=1))
    return Input([own / "dataset.json"], lambda: _read(own), {None: (edited_json,)})


def edited_line(data: bytes, chance: random.Random) -> bytes:
    """A JSON line is another."""
    lines = data.splitlines()
    number = chance.randrange(len(lines))
    lines[number] = b" ".join(edited_json(lines[number], chance).splitlines())
    return b"\n".join(lines) + b"\n"


def results(folder: Path) -> Input:
    """Finished tests of an evaluation; damaged lines are left out, and the file is written anew without them."""
    path = folder / "results.jsonl"
    file = ResultFile(path)
    scores = {"liver": Agreement(0.5, 1.25, 4.5, True, True), "Läsion": Agreement(None, None, None, False, False)}
    for patient in "abc":
        file.add(Result(patient * 32, "mini", 1, 1, ("t",), patient, scores, 1.5))

    def use() -> list[Any]:
        found = ResultFile(path)
        kept = [found.get(patient * 32) for patient in "abc"]
        return [each.to_dict() if each else None for each in kept]

    return Input([path], use, {None: (edited_line,)}, may_change=True)


def _cohort(folder: Path) -> cb.Cohort:
    """A cohort of two scans, one of which is accepted."""
    scans = folder / "scans"
    scans.mkdir()
    for name in "ab":
        cb.write_volume(scan(), scans / f"{name}.nrrd")
    cohort = cb.Cohort.create(folder / "cohort", ["liver", "Läsion"])
    cohort.add([scans])
    cohort.accept("a", _labels(), by="AB")
    return cohort


def _told(folder: Path) -> list[Any]:
    cohort = cb.Cohort.open(folder)
    following = cohort.next()
    states = [[each.name, each.state.value, list(each.flags), each.by, each.when] for each in cohort.status()]
    if any(flags for _, _, flags, *_ in states):
        raise cb.CoralBayError(str(states))
    return [cohort.description.name, sorted(cohort.structures.items()), states, following and following.name]


def cohort(folder: Path) -> Input:
    """The description of a cohort."""
    own = _cohort(folder).folder
    return Input([own / "cohort.json"], lambda: _told(own), {None: (edited_json,)})


def cohort_record(folder: Path) -> Input:
    """The record of an accepted segmentation."""
    own = _cohort(folder).folder
    return Input([own / "accepted" / "a.1.json"], lambda: _told(own), {None: (edited_json,)})


PATIENTS: dict[str, Build] = {
    "Names of structures (labels.json)": names,
    "Data set of nnU-Net (dataset.json)": dataset,
    "Finished tests (results.jsonl)": results,
    "Cohort (cohort.json)": cohort,
    "Record of a cohort (.json)": cohort_record,
}
