"""Scan probes on the worker: fitted to a table and tested, applied to scans, and explained by a saliency map.

Modules of the library that need torch are imported inside the functions, so that the worker loads it at first use.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from slicer.i18n import tr as _

from CoralBayLib.core.errors import ProbeError, Remedy, ScansError
from CoralBayLib.core.progress import CancelToken, subprogress
from CoralBaySlicerCore.scene.scan_tables import Predictions, Study
from CoralBaySlicerCore.setup import packages

from .remedies import describe_error
from .worker import Message, Task, TaskProgress

if TYPE_CHECKING:
    from CoralBayLib.features.pyramid import FeaturePyramid
    from CoralBayLib.imaging.grid import Volume
    from CoralBayLib.scan_probes import Evaluation, ScanEmbeddings, Skipped
    from CoralBayLib.scan_probes.charts import Chart
    from CoralBayLib.scan_probes.loading import AnyProbe

    from .session import EncoderConfig
    from .tasks import Tasks


@dataclass(frozen=True, eq=False)
class FitResult:
    """A fitted probe and its evaluation.

    Attributes:
        probe: fitted on all scans.
        evaluation: by cross-validation.
        charts: of the evaluation.
        scans, patients: their numbers.
        predictions: for each scan, of a probe that was not fitted on the scan's patient.
    """

    probe: AnyProbe
    evaluation: Evaluation
    charts: Sequence[Chart]
    scans: int
    patients: int
    predictions: Predictions


def fitTask(logic: Tasks, study: Study, kind: str = "linear") -> Task:
    """Fit a probe, "linear" or "attentive", to a study and evaluate it by cross-validation; the result is a `FitResult`.

    Scans that were embedded stay in the store, also when the task is cancelled.

    Raises:
        CoralBayError: the user declined to install a missing package.
    """
    packages.ensure(*([packages.SURVIVAL] if study.task == "survival" else []))
    config = logic.encoder_config()

    def run(progress: TaskProgress, cancel: CancelToken) -> FitResult:
        from CoralBayLib.scan_probes import AttentiveProbe, ScanProbe, cross_validate
        from CoralBayLib.scan_probes.charts import charts
        from CoralBayLib.scan_probes.comparison import inputs_of
        from CoralBayLib.scan_probes.tables.table import table_of

        table = table_of(
            study.rows,
            study.columns,
            study.target,
            study.task,
            scan=study.scan,
            patient=study.patient,
            time=study.time,
            folder=study.folder,
            name=study.name,
            first=1,
        )
        embedded = _embed(logic, config, table.scans, subprogress(progress, 0, 0.8), cancel, kind)
        positive = study.positive if study.positive in table.labels.values else ""
        labels = table.labels.with_positive(positive).take(embedded.rows)

        def show_progress(fraction: float, _message: str) -> None:
            progress(0.8 + 0.2 * fraction, Message(_("Testing on unseen patients"), is_timed=True))

        inputs: Any = inputs_of(kind, embedded)
        make: Any = partial(AttentiveProbe, cancel) if kind == "attentive" else ScanProbe
        evaluation = cross_validate(inputs, labels, make=make, progress=show_progress, cancel=cancel)
        probe: AnyProbe = make().fit(inputs, labels)
        probe.signature, probe.target = embedded.signature, study.target
        if isinstance(probe, ScanProbe):
            probe.pooled = embedded.pooled
        rows, count = table.rows[embedded.rows], len(study.rows)
        predictions = Predictions(
            _column_names(probe),
            _fill_rows(evaluation.predicted, rows, count),
            _fill_rows(evaluation.fold + 1, rows, count, 0)[:, 0].astype(np.int64),
            tuple(map(_describe, (*table.left_out, *embedded.left_out))),
        )
        patients = len(set(labels.patients))
        return FitResult(probe, evaluation, charts(labels, evaluation), len(labels), patients, predictions)

    return logic.worker.start(Task(run, title=_("Fitting a scan probe")))


def save(probe: AnyProbe, path: str) -> None:
    """Write a probe to a file.

    Raises:
        StoreError: the file could not be written.
    """
    from CoralBayLib.scan_probes.loading import save_scan_probe

    save_scan_probe(probe, path)


def applyTask(logic: Tasks, probe: AnyProbe, study: Study) -> Task:
    """Predict for the scans of a table; the result is a `Predictions`."""
    packages.ensure()
    config = logic.encoder_config()

    def run(progress: TaskProgress, cancel: CancelToken) -> Predictions:
        paths, rows, without_scan = [], [], []
        for number, row in enumerate(study.rows):
            if row[study.scan].strip():
                paths.append(Path(study.folder) / row[study.scan].strip())
                rows.append(number)
            else:
                without_scan.append((_("row {number}").format(number=number + 1), _("The path of the scan is empty.")))
        if not paths:
            raise ScansError(_("There is no scan in the column '{column}'. Choose another.").format(column=study.scan))
        from CoralBayLib.scan_probes.comparison import inputs_of

        embedded = _embed(logic, config, paths, progress, cancel, probe.kind)
        probe.require_fit(embedded.signature)
        inputs: Any = inputs_of(probe.kind, embedded)
        values = _fill_rows(probe.predict(inputs), np.array(rows)[embedded.rows], len(study.rows))
        return Predictions(_column_names(probe), values, None, (*without_scan, *map(_describe, embedded.left_out)))

    return logic.worker.start(Task(run, title=_("Applying the probe")))


def predict_scan(pyramid: FeaturePyramid, probe: AnyProbe) -> dict[str, float]:
    """Predict for one scan, on the worker.

    Returns:
        Probability of each class, or the number or log risk by the target's name.

    Raises:
        ProbeError: the probe was fitted on other features, or the encoder has no scan embedding.
    """
    probe.require_fit(pyramid.signature)
    inputs: Any
    if probe.kind == "attentive":
        from CoralBayLib.scan_probes import sample_tokens

        inputs = sample_tokens(pyramid)
    elif pyramid.scan_embedding is None:
        raise ProbeError(_("This encoder has no embedding of whole scans."), remedy=Remedy.CHOOSE_ENCODER)
    else:
        inputs = pyramid.scan_embedding.float().numpy()[None]
    values = np.ravel(probe.predict(inputs))
    return dict(zip(probe.classes_ or [probe.target], map(float, values), strict=True))


def is_attention(probe: AnyProbe, class_index: int) -> bool:
    """Whether a number that chooses a map stands for the attention: it is the one behind the last class."""
    return probe.kind == "attentive" and class_index >= max(len(probe.classes_), 1)


def saliency(pyramid: FeaturePyramid, probe: AnyProbe, class_index: int) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """The locations that raise the probability of a class, the predicted number, or the predicted risk; on the worker.

    Args:
        pyramid: of the scan.
        probe: fitted or loaded.
        class_index: of the class; 0 for a number or a risk. The number behind the last is the attention of an attentive
            probe (see `is_attention`): the weight of each location, whatever it is evidence for.

    Returns:
        Percent of the largest contribution, uint8 [k, j, i], and 0 where the contribution is negative; and the map's
        (4, 4) matrix from IJK to the volume's RAS mm.

    Raises:
        ProbeError: the probe was fitted on other features, or on an encoder without locations in its scan embedding.
    """
    from CoralBayLib.scan_probes import AttentiveProbe, attention_map, saliency_map

    if isinstance(probe, AttentiveProbe) and is_attention(probe, class_index):
        return _percent(attention_map(pyramid, probe), pyramid, 1.0)
    # A probe of two classes has one output, which is the logit of the second.
    output, sign = (0, -1.0 if class_index == 0 else 1.0) if len(probe.classes_) == 2 else (class_index, 1.0)
    return _percent(saliency_map(pyramid, probe, output), pyramid, sign)


def _percent(values: Volume, pyramid: FeaturePyramid, sign: float) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """A map in percent of its largest value in the body, and its matrix from IJK to RAS mm."""
    from CoralBayLib.fewshot.preview import to_percent

    signed = sign * np.where(pyramid.body.array > 0, values.array, 0)
    return to_percent(signed / max(float(signed.max()), 1e-9)), np.array(values.grid.ijk_to_ras)


def _embed(
    logic: Tasks,
    config: EncoderConfig,
    paths: Sequence[Path],
    progress: TaskProgress | None,
    cancel: CancelToken,
    kind: str = "linear",
) -> ScanEmbeddings:
    """Embed scans and show which one is at work."""
    from CoralBayLib.features.store import Store
    from CoralBayLib.scan_probes import embed_scans

    encoder = logic.features.encoder(config, progress, cancel)

    def show_progress(fraction: float, _message: str) -> None:
        if progress is not None:
            number = min(len(paths), int(fraction * len(paths)) + 1)
            text = _("Computing features: scan {n} of {count}").format(n=number, count=len(paths))
            progress(fraction, Message(text, is_timed=True))

    with_tokens = kind == "attentive"
    return embed_scans(paths, encoder, show_progress, cancel, store=Store(), with_tokens=with_tokens)


def _column_names(probe: AnyProbe) -> tuple[str, ...]:
    if probe.classes_:
        return tuple(_("probability of {name}").format(name=name) for name in probe.classes_)
    if probe.task_ == "survival":
        return (_("log risk"),)
    return (_("predicted {target}").format(target=probe.target),)


def _fill_rows(values: NDArray, rows: NDArray[np.int64], count: int, empty: float = np.nan) -> NDArray[np.float64]:
    """(count, columns): the values in their rows, and `empty` in all other rows."""
    values = np.asarray(values, float).reshape(len(rows), -1)
    filled = np.full((count, values.shape[1]), empty)
    filled[rows] = values
    return filled


def _describe(skipped: Skipped) -> tuple[str, str]:
    """Name of a row or scan that was left out, and the reason with its remedy."""
    name = _("row {number}").format(number=skipped.row) if skipped.scan is None else str(skipped.scan)
    return name, describe_error(skipped.error)
