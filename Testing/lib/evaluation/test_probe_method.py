"""The probe as the method, on phantoms: it learns from several patients, also with an encoder whose scans share no basis."""

import pytest

import CoralBayLib as cb
from CoralBayLib.evaluation.cases import embed_cases, read_cases
from CoralBayLib.evaluation.draws import Draw
from CoralBayLib.evaluation.probe_method import ProbeMethod
from CoralBayLib.evaluation.results import ResultFile
from CoralBayLib.evaluation.run import Evaluation
from CoralBayLib.imaging.patients import find_patients


@pytest.mark.slow
def test_several_patients_teach_both_structures(patients, pooling, tmp_path):
    encoder, store = pooling(), cb.Store(tmp_path / "store")
    cases = embed_cases(read_cases(find_patients(patients).patients), encoder, store)
    # In p1 only the bright ball was looked for, so that the dark one is known from p0 alone.
    draws = [Draw(1, 2, ("p1", "p0"), ("p4",)), Draw(2, 1, ("p1",), ("p4",))]
    evaluation = Evaluation(cases, [encoder], draws, ProbeMethod(), ResultFile(tmp_path / "results.jsonl"), store)
    both, one = evaluation.run()
    assert both.scores["bright ball"].dice > 0.5 and both.scores["dark ball"].dice > 0.3
    assert set(one.scores) == {"bright ball"} and one.scores["bright ball"].dice > 0.5
