"""The whole way from a folder of patients to results, with a stand-in for the method; continuing, cancelling, keeping apart."""

import json
import shutil

import pytest

import CoralBayLib as cb
from CoralBayLib.core.errors import Cancelled, EvaluationError, VolumeError
from CoralBayLib.core.progress import CancelToken
from CoralBayLib.evaluation.cases import embed_cases, read_cases
from CoralBayLib.evaluation.draws import make_draws
from CoralBayLib.evaluation.results import ResultFile
from CoralBayLib.evaluation.run import Evaluation
from CoralBayLib.imaging.patients import find_patients


@pytest.fixture
def store(tmp_path):
    return cb.Store(tmp_path / "store")


@pytest.fixture
def cases(patients, pooling, store):
    return embed_cases(read_cases(find_patients(patients).patients), pooling(), store)


@pytest.fixture
def make(cases, pooling, method, store, tmp_path):
    def evaluation(draws=2, shots=(1, 2), test=("p3", "p4"), of=cases, **options):
        made = make_draws(list(of.cases), of.complete, shots, draws, test, only_test=of.empty)
        return Evaluation(of, [pooling()], made, method, ResultFile(tmp_path / "results.jsonl"), store, **options)

    return evaluation


def test_what_was_looked_for_is_known_by_patient(cases):
    assert cases.names == {1: "bright ball", 2: "dark ball"}
    looked_for = {name: (set(case.looked_for), set(case.present)) for name, case in cases.cases.items()}
    assert looked_for == {
        **dict.fromkeys(("p0", "p3", "p4"), ({1, 2}, {1, 2})),
        "p1": ({1}, {1}),  # the list of its structures lacks the dark ball
        "p2": ({1, 2}, {1}),  # it was looked for, and is not there
    }
    assert cases.empty == []
    assert cases.complete == ["p0", "p3", "p4"]


def test_each_patient_teaches_once_and_is_never_tested_by_itself(make, method, cases):
    made = make(draws=3, shots=(1, 2, 4), test=())
    results = made.run()
    assert len(method.learned) == len({key for key, _ in method.learned}) <= 5
    by_key = {key: sorted(names) for key, names in method.learned}
    assert by_key[cases.cases["p1"].scan_keys["pooling"]] == [1]
    assert method.combined == [draw.shots for draw in made.draws]
    assert all(result.patient not in result.train and len(result.train) == result.shots for result in results)
    assert len(results) == len(method.tested) == len({(frozenset(result.train), result.patient) for result in results})


def test_the_balls_are_found_and_scored_where_they_were_looked_for(make):
    results = make(test=("p1", "p2", "p4"), shots=(2,), draws=1).run()
    scores = {result.patient: result.scores for result in results}
    assert scores["p4"]["bright ball"].dice > 0.7 and scores["p4"]["dark ball"].dice > 0.5
    assert scores["p4"]["bright ball"].mean_mm < 2
    assert set(scores["p1"]) == {"bright ball"}  # the dark ball may be there: nobody looked
    assert scores["p2"]["dark ball"].present is False


def test_a_structure_that_nobody_taught_is_not_scored(make, cases):
    one = make(shots=(1,), draws=1)
    one.draws = [type(one.draws[0])(1, 1, ("p1",), ("p4",))]
    (result,) = one.run()
    assert set(result.scores) == {"bright ball"}


def test_finished_tests_are_not_done_again(make, method):
    cancel, seen = CancelToken(), []

    def progress(fraction, message):
        seen.append((fraction, message))
        if len(method.tested) == 2:
            cancel.cancel()

    with pytest.raises(Cancelled):
        make().run(progress, cancel)
    first, tests = list(make().file.path.read_text().splitlines()), len(make().draws) * 2
    assert 0 < len(make().known()) == len(first) == len(method.tested) < tests
    results = make().run()
    assert len(results) == tests == len(method.tested)
    assert make().file.path.read_text().splitlines()[: len(first)] == first
    fractions = [fraction for fraction, _ in seen]
    assert fractions == sorted(fractions) and "draw 1: testing p3" in seen[1][1]
    # All three patients that are not kept for the test are one probe more, and another version of the program begins anew.
    make(shots=(1, 2, 3)).run()
    assert len(method.tested) == tests + 2
    make(version="2").run()
    assert len(method.tested) == tests + 2 + tests


def test_a_torn_line_is_left_out_and_replaced(make, method):
    make().run()
    file = make().file.path
    lines = file.read_text().splitlines()
    file.write_text(
        "\n".join(
            [lines[0], "{", json.dumps({"key": "k"}), lines[1].replace('"dice": ', '"dice": 7'), *lines[2:-1], lines[-1][:40]]
        )
    )
    tests = len(method.tested)
    assert len(make().run()) == len(lines)
    assert len(method.tested) == tests + 2
    assert all(json.loads(line)["scores"] for line in file.read_text().splitlines())
    assert len(file.read_text().splitlines()) == len(lines)


def test_other_labels_are_another_patient(patients, make, pooling, store, method):
    make().run()
    tests = len(method.tested)
    labels = patients / "p4" / "labels.nii.gz"
    changed = cb.read_labelmap(labels)
    changed.array[changed.array == 2] = 0
    cb.write_volume(changed, labels)
    again = embed_cases(read_cases(find_patients(patients).patients), pooling(), store)
    make(of=again).run()
    assert tests < len(method.tested) < 2 * tests


def test_only_some_structures(patients, pooling, store, make, method):
    cases = embed_cases(read_cases(find_patients(patients).patients, ["Dark Ball"]), pooling(), store)
    assert cases.names == {1: "dark ball"}
    assert cases.empty == ["p2"]
    results = make(of=cases).run()
    assert not any("p2" in result.train for result in results)
    assert {name for result in results for name in result.scores} == {"dark ball"}
    assert {tuple(names.values()) for _, names in method.learned} == {("dark ball",)}
    assert "p1" not in cases.cases and cases.left_out[0].reason == "None of these was looked for: dark ball."
    with pytest.raises(VolumeError, match="'liver'. There are bright ball, dark ball"):
        read_cases(find_patients(patients).patients, ["liver"])


def test_patients_that_cannot_be_used_are_left_out_with_the_reason(patients, pooling, store):
    shutil.copytree(patients / "p0", patients / "p5")  # the same scan under another name
    cropped = cb.read_labelmap(patients / "p1" / "labels.nii.gz")
    cropped = cb.Volume(cropped.array[1:], cropped.grid.subgrid([0, 0, 1], 1, cropped.array[1:].shape))
    cb.write_volume(cropped, patients / "p1" / "labels.nii.gz")
    scan = cb.read_volume(patients / "p2" / "ct.nii.gz")
    cb.write_volume(cb.Volume((scan.array > 0).astype("uint8"), scan.grid), patients / "p2" / "ct.nii.gz")
    found = read_cases(find_patients(patients).patients)
    assert "voxels, and the scan" in found.left_out[0].reason
    cases = embed_cases(found, pooling(), store)
    assert list(cases.cases) == ["p0", "p3", "p4"]
    reasons = {each.path.split("/")[-2]: each.reason for each in cases.left_out}
    assert set(reasons) == {"p1", "p2", "p5"} and reasons["p5"] == "It is the same scan as that of p0."
    assert len(cb.Store(store.root).entries()) == 3
    for name in ("p3", "p4", "p5"):
        shutil.rmtree(patients / name)
    with pytest.raises(EvaluationError, match="Too few patients"):
        embed_cases(read_cases(find_patients(patients).patients), pooling(), store)


def test_features_that_the_store_dropped_are_computed_again(make, store):
    store.clear()
    assert len(make().run()) == len(make().draws) * 2
