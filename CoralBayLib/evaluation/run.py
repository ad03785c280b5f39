"""Learns probes from the drawn patients, and tests them on the others."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from CoralBayLib.core.progress import CancelToken, Progress, raise_if_cancelled, report
from CoralBayLib.encoders.base import Encoder
from CoralBayLib.features.pyramid import FeaturePyramid
from CoralBayLib.features.store import Store
from CoralBayLib.imaging.grid import Volume

from .agreement import compare
from .cases import Case, Cases, pyramid_of
from .draws import Draw
from .method import Lesson, Method
from .results import Result, ResultFile


@dataclass
class Evaluation:
    """Probes to learn and to test.

    Args:
        cases: the patients, embedded with all encoders.
        encoders: to compare; each learns from the same patients.
        draws: of the labeled patients.
        method: how to learn and to segment.
        file: where results are kept; those that it has already are not computed again.
        store: has the features.
        assume_hu: skip the check that the values look like HU, where features must be computed again.
        version: of the program; results of another one are computed again.
    """

    cases: Cases
    encoders: Sequence[Encoder]
    draws: Sequence[Draw]
    method: Method
    file: ResultFile
    store: Store
    assume_hu: bool = False
    version: str = ""
    _parts: dict[tuple[str, str], Any] = field(default_factory=dict)
    _model: tuple[tuple[str, tuple[str, ...]], Any] | None = None

    def run(self, progress: Progress | None = None, cancel: CancelToken | None = None) -> list[Result]:
        """Compute what is not known yet; each result is in the file as soon as it is there.

        Args:
            progress: called with the fraction done and a message.
            cancel: checked between steps.

        Returns:
            All results, in the order of the draws.

        Raises:
            Cancelled: `cancel` was called; what was computed is kept in the file.
            StoreError: the file cannot be written.
        """
        tests = [(draw, encoder, name) for draw in self.draws for encoder in self.encoders for name in draw.test]
        missing = [test for test in tests if self.file.get(self._key(*test)) is None]
        lessons = {(encoder.name, patient) for draw, encoder, _ in missing for patient in draw.train}
        steps, done = len(missing) + len(lessons), 0
        for draw, encoder, name in missing:
            about = f"{encoder.name}, {draw.shots} patient{'s' * (draw.shots > 1)}, draw {draw.number}"
            for patient in draw.train:
                if (encoder.name, patient) not in self._parts:
                    raise_if_cancelled(cancel)
                    report(progress, done / steps, f"{about}: learning {patient}")
                    self._parts[encoder.name, patient] = self._learn(encoder, self.cases.cases[patient], cancel)
                    done += 1
            raise_if_cancelled(cancel)
            report(progress, done / steps, f"{about}: testing {name}")
            self.file.add(self._test(draw, encoder, name, cancel))
            done += 1
        report(progress, 1.0, "Evaluated")
        return self.known()

    def known(self) -> list[Result]:
        """The results that are known, in the order of the draws."""
        found = []
        for draw in self.draws:
            for encoder in self.encoders:
                for name in draw.test:
                    result = self.file.get(self._key(draw, encoder, name))
                    if result is not None:
                        # The same probe may have another number in another set of draws.
                        found.append(replace(result, draw=draw.number, train=draw.train, patient=name))
        return found

    def _learn(self, encoder: Encoder, case: Case, cancel: CancelToken | None) -> Any:
        def load() -> tuple[FeaturePyramid, Volume]:
            pyramid = pyramid_of(case, encoder, self.store, assume_hu=self.assume_hu)
            return pyramid, self.cases.labels_of(case)

        names = {label: self.cases.names[label] for label in sorted(case.looked_for)}
        return self.method.learn(Lesson(names, load), cancel)

    def _test(self, draw: Draw, encoder: Encoder, name: str, cancel: CancelToken | None) -> Result:
        case = self.cases.cases[name]
        pyramid = pyramid_of(case, encoder, self.store, assume_hu=self.assume_hu, cancel=cancel)
        truth = self.cases.labels_of(case)
        if self._model is None or self._model[0] != (encoder.name, draw.train):
            parts = [self._parts[encoder.name, patient] for patient in draw.train]
            self._model = (encoder.name, draw.train), self.method.combine(parts, cancel)
        start = time.perf_counter()
        predicted = self.method.predict(self._model[1], pyramid, truth.grid, cancel)
        seconds = time.perf_counter() - start
        taught = frozenset[int]().union(*(self.cases.cases[patient].present for patient in draw.train))
        scores = {self.cases.names[label]: compare(predicted, truth, label) for label in sorted(case.looked_for & taught)}
        return Result(
            self._key(draw, encoder, name), encoder.name, draw.shots, draw.number, draw.train, name, scores, round(seconds, 3)
        )

    def _key(self, draw: Draw, encoder: Encoder, name: str) -> str:
        def content(patient: str) -> list[str]:
            case = self.cases.cases[patient]
            return [case.scan_keys[encoder.name], case.labels_hash]

        known = [self.version, self.method.version, encoder.name, sorted(map(content, draw.train)), content(name)]
        return hashlib.sha256(json.dumps(known).encode()).hexdigest()[:32]
