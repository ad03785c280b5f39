"""`coralbay probe`: learn structures from annotated patients, describe a saved probe, and merge probes."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from CoralBayLib.cli.common import open_cache, open_encoder
from CoralBayLib.cli.console import Console
from CoralBayLib.cli.options import Common
from CoralBayLib.core.errors import ProbeError
from CoralBayLib.core.notice import NOTICE
from CoralBayLib.core.outputs import require_writable
from CoralBayLib.core.paths import expand

if TYPE_CHECKING:
    from CoralBayLib.features.pyramid import FeaturePyramid
    from CoralBayLib.fewshot.probe import Probe
    from CoralBayLib.imaging.grid import Volume

_SUFFIX = ".safetensors"
_PROMPTS = (".json", ".fcsv")


def add_parser(commands: Any, common: Common) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "probe",
        help="learn structures from annotated patients, for `coralbay segment --probe`",
        description=f"Probes that learn from one patient or several. {NOTICE}",
    )
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    fit = verbs.add_parser(
        "fit",
        parents=[common.output, common.embedding],
        help="learn from annotated scans",
        description="Learn structures from scans and their annotations. A structure that an annotation does not name may be in "
        "the scan all the same: nothing is learned about it there.",
    )
    fit.add_argument(
        "scans",
        nargs="+",
        metavar="CT ANNOTATION",
        help="a scan and its annotation, then the next: a .seg.nrrd, a DICOM SEG, a labelmap (names in labels.json beside it), "
        "or prompts as JSON or Slicer's markups",
    )
    fit.add_argument("--add-to", metavar="FILE", help="saved probe of several patients to continue; the file stays as it is")
    fit.add_argument("--output", "-o", metavar="FILE", default="probe.safetensors", help="probe to write (default %(default)s)")
    fit.set_defaults(run=_fit)
    info = verbs.add_parser("info", parents=[common.output], help="describe a saved probe")
    info.add_argument("probe", metavar="FILE", help="saved probe")
    info.set_defaults(run=_info)
    merge = verbs.add_parser("merge", parents=[common.output], help="join saved probes; a scan in two counts as in the last")
    merge.add_argument("probes", nargs="+", metavar="FILE", help="saved probes of several patients, or of `coralbay probe fit`")
    merge.add_argument("--output", "-o", metavar="FILE", required=True, help="probe to write")
    merge.set_defaults(run=_merge)


def _fit(args: argparse.Namespace, console: Console) -> dict[str, Any]:
    from CoralBayLib.features.embedding import embed
    from CoralBayLib.fewshot.probe import Probe
    from CoralBayLib.imaging.segments.origin import note_on_origin
    from CoralBayLib.imaging.volume_io import read_volume

    if len(args.scans) % 2:
        raise ProbeError(f"Give each scan with its annotation: CT ANNOTATION [CT ANNOTATION ...]. {args.scans[-1]} has none.")
    paths = [expand(path) for path in args.scans]
    args.output = require_writable(args.output, [*paths, *([args.add_to] if args.add_to else [])], suffixes=(_SUFFIX,))
    probe = Probe.load(args.add_to) if args.add_to else Probe()
    encoder, store = open_encoder(args, console), open_cache(args)
    for scan, annotation in zip(paths[::2], paths[1::2], strict=True):
        volume = read_volume(scan)
        with console.bar(f"Embedding {scan.name}") as progress:
            pyramid = embed(volume, encoder, progress, store=store, assume_hu=args.assume_hu)
        if note := note_on_origin(annotation, scan):
            console.say(note)
        labels, names, prompts = _labels(annotation, scan, volume, pyramid)
        probe.learn(pyramid, labels, names, {"prompts": prompts} if prompts else None)
        console.say(f"Learned from {scan.name}: {', '.join(names.values())}")
    return _saved(probe, args.output, console)


def _labels(annotation: Path, scan: Path, volume: Volume, pyramid: FeaturePyramid) -> tuple[Volume, dict[int, str], int]:
    """Labelmap and names of an annotation, and the number of prompts that it consists of."""
    from CoralBayLib.fewshot.prompt_io import read_prompts
    from CoralBayLib.fewshot.segmenter import Segmenter
    from CoralBayLib.imaging.patients import LabeledPatient, read_labels
    from CoralBayLib.imaging.patients.folders import NAMES_FILE
    from CoralBayLib.imaging.patients.structures import names_from_json, read_json

    if annotation.name.lower().endswith(_PROMPTS):
        prompts = read_prompts(annotation)
        segmenter = Segmenter(pyramid).fit(prompts)
        return segmenter.labelmap(pyramid.grid), segmenter.names, len(prompts)
    listed = annotation.parent / NAMES_FILE
    names = names_from_json(read_json(listed), NAMES_FILE) if listed.is_file() else None
    found = read_labels(LabeledPatient(scan.name, scan, annotation, names), volume.grid)
    return found.labelmap, dict(found.names), 0


def _info(args: argparse.Namespace, console: Console) -> dict[str, Any]:
    from CoralBayLib.fewshot.patients.teaching import described
    from CoralBayLib.fewshot.probe import Probe

    path = expand(args.probe)
    probe = Probe.load(path)
    patients = [] if probe.patients_ is None else described(probe.patients_)
    report: dict[str, Any] = {
        "probe": str(path),
        "structures": {str(label): name for label, name in probe.names_.items()},
        "features": probe.signature_,
        "patients": patients,
        "prompts": len(probe.prompts_),
        "bytes": path.stat().st_size,
    }
    console.result(f"Structures: {', '.join(probe.names_.values())}")
    console.result(f"Features: {probe.signature_[:100]}")
    if not patients:
        console.result(f"Fitted on the {len(probe.prompts_)} prompts of one scan")
    for number, patient in enumerate(patients, start=1):
        size = patient["bytes"] / 1e6
        console.result(
            f"Patient {number}: scan {patient['scan'][:12] or 'unknown'}, {len(patient['structures'])} structures looked for, "
            f"learned {patient.get('learned', 'at an unknown time')}, {size:.1f} MB"
        )
    return report


def _merge(args: argparse.Namespace, console: Console) -> dict[str, Any]:
    from CoralBayLib.fewshot.probe import Probe

    paths = [expand(path) for path in args.probes]
    args.output = require_writable(args.output, list(paths), suffixes=(_SUFFIX,))
    with console.bar("Merging"):
        merged = Probe.merged([Probe.load(path) for path in paths])
    return _saved(merged, args.output, console)


def _saved(probe: Probe, output: Path, console: Console) -> dict[str, Any]:
    assert probe.patients_ is not None
    with console.bar("Training"):
        probe.save(output)
    count = len(probe.patients_.records)
    console.result(f"Written: {output} ({count} patient{'s' * (count > 1)}, {output.stat().st_size / 1e6:.1f} MB)")
    return {"output": str(output), "patients": count, "structures": list(probe.names_.values())}
