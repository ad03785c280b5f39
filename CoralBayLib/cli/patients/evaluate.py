"""`coralbay evaluate`: how well probes from few labeled patients segment the others of a folder."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from CoralBayLib import __version__
from CoralBayLib.cli.common import open_encoder
from CoralBayLib.cli.console import Console
from CoralBayLib.cli.options import Common
from CoralBayLib.core.errors import EvaluationError
from CoralBayLib.core.notice import NOTICE
from CoralBayLib.core.outputs import require_writable_folder
from CoralBayLib.core.paths import expand

if TYPE_CHECKING:
    from CoralBayLib.encoders.base import Encoder
    from CoralBayLib.evaluation.cases import Cases
    from CoralBayLib.evaluation.draws import Draw
    from CoralBayLib.evaluation.results import Result
    from CoralBayLib.evaluation.run import Evaluation
    from CoralBayLib.features.store import Store

_RESULTS, _REPORT, _TABLE, _PICTURE = "results.jsonl", "evaluation.json", "evaluation.md", "evaluation.png"


def add_parser(commands: Any, common: Common) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "evaluate",
        parents=[common.output, common.computing],
        help="measure on your own labeled patients how well a probe segments further ones",
        description="Learn probes from a few labeled patients of a folder, segment the others with them, and compare with "
        f"their labels. {NOTICE}",
        epilog="Finished results are kept in the output folder: the same command continues where it was interrupted, and "
        "further draws, numbers or encoders compute only what is new.",
    )
    parser.add_argument(
        "folder",
        metavar="FOLDER",
        help="a folder for each patient with ct.* and labels.* (and labels.json with the names), or a data set of nnU-Net",
    )
    parser.add_argument(
        "--encoders",
        type=_words,
        default=["auto"],
        metavar="NAME[,NAME]",
        help="encoders to compare, as `coralbay encoders` lists them (default auto: those of --encoder-file, or coralbay, or "
        "coralbay-mini when the weights of coralbay are not available)",
    )
    parser.add_argument(
        "--encoder-file",
        action="append",
        default=[],
        metavar="FILE",
        help="Python file that registers encoders; the file is run. May be given several times",
    )
    parser.add_argument(
        "--shots",
        type=_numbers,
        default=[1, 2, 5, 10, 20],
        metavar="N[,N]",
        help="numbers of labeled patients to learn from (default 1,2,5,10,20)",
    )
    parser.add_argument(
        "--draws", type=int, default=3, metavar="N", help="how often the labeled patients are drawn at random (default 3)"
    )
    parser.add_argument(
        "--test",
        type=float,
        metavar="N",
        help="patients to keep for the test, the same for all draws: a number, or a part such as 0.25 (default: all patients "
        "that are not drawn are tested, which takes longer)",
    )
    parser.add_argument(
        "--structures", type=_words, default=[], metavar="NAME[,NAME]", help="structures to evaluate (default all)"
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="random seed of the draws (default 0)")
    parser.add_argument(
        "--output",
        "-o",
        default="output/evaluation",
        metavar="FOLDER",
        help="folder for the results, the report, the table and the picture (default output/evaluation)",
    )
    parser.set_defaults(run=run)


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _numbers(text: str) -> list[int]:
    try:
        numbers = [int(word) for word in _words(text)]
    except ValueError:
        numbers = []
    if not numbers or min(numbers) < 1:
        raise argparse.ArgumentTypeError(f"'{text}' are not numbers of patients; write them as in 1,2,5")
    return numbers


def run(args: argparse.Namespace, console: Console) -> dict[str, Any]:
    """`coralbay evaluate`."""
    from CoralBayLib.evaluation.cases import embed_cases, read_cases
    from CoralBayLib.evaluation.probe_method import ProbeMethod
    from CoralBayLib.evaluation.results import ResultFile
    from CoralBayLib.evaluation.run import Evaluation
    from CoralBayLib.imaging.patients import find_patients

    if args.draws < 1 or args.seed < 0:
        raise EvaluationError("Expected at least one draw, and a seed of 0 or more.")
    args.folder = expand(args.folder)
    found = find_patients(args.folder)
    with console.bar("Reading labels") as progress:
        cases = read_cases(found.patients, args.structures, progress)
    cases.left_out.extend(found.left_out)
    # What can be known beforehand is told before hours of computing.
    _draws(args, cases)
    args.output = require_writable_folder(args.output, [], (_RESULTS, _REPORT, _TABLE, _PICTURE))
    with _store(args) as store:
        encoders = _encoders(args, console)
        for encoder in encoders.values():
            with console.bar("Embedding") as progress:
                cases = embed_cases(cases, encoder, store, assume_hu=args.assume_hu, progress=progress)
        for skipped in cases.left_out:
            if skipped.is_fault:
                console.say(f"Left out: {skipped.path}: {skipped.reason}")
        draws = _draws(args, cases)
        _say_too_many(args, console, draws)
        file = ResultFile(args.output / _RESULTS)
        evaluation = Evaluation(cases, list(encoders.values()), draws, ProbeMethod(), file, store, args.assume_hu, __version__)
        try:
            with console.bar("Evaluating") as progress:
                results = evaluation.run(progress)
            return _report(args, console, evaluation, results)
        except KeyboardInterrupt:
            console.say(f"\n{len(evaluation.known())} finished tests are in {file.path}. The same command continues there.")
            raise


def _encoders(args: argparse.Namespace, console: Console) -> dict[str, Encoder]:
    """Those to compare, by name, each once."""
    from CoralBayLib.encoders import load_encoder_file

    own = [name for file in args.encoder_file for name in load_encoder_file(file)]
    # What other commands let choose for one encoder.
    options = argparse.Namespace(**{**vars(args), "encoder_file": None}, encoder="auto", weights=None, setting=None)
    names = [name for each in args.encoders for name in (own if own and each == "auto" else [each])]
    return {encoder.name: encoder for encoder in (open_encoder(options, console, name) for name in dict.fromkeys(names))}


def _draws(args: argparse.Namespace, cases: Cases) -> list[Draw]:
    from CoralBayLib.evaluation.draws import choose_test, make_draws

    names = list(cases.cases)
    test = () if args.test is None else choose_test(names, args.test, args.seed)
    return make_draws(names, cases.complete, args.shots, args.draws, test, args.seed, cases.empty)


def _say_too_many(args: argparse.Namespace, console: Console, draws: list[Draw]) -> None:
    """Name the numbers of labeled patients, and the draws, that the patients are too few for."""
    shots = {draw.shots for draw in draws}
    missing = sorted(set(args.shots) - shots)
    if missing:
        console.say(f"Left out: {', '.join(map(str, missing))} labeled patients, because there are too few patients.")
    fewer = {n: len([draw for draw in draws if draw.shots == n]) for n in sorted(shots)}
    for n, count in fewer.items():
        if count < args.draws:
            console.say(f"{n} labeled patients: only {count} of {args.draws} draws differ, because there are too few patients.")


@contextmanager
def _store(args: argparse.Namespace) -> Iterator[Store]:
    """The cache of embeddings; with --no-cache one that is deleted at the end, because each embedding is needed many times."""
    from CoralBayLib.features.store import Store

    if not args.no_cache:
        yield Store()
        return
    with tempfile.TemporaryDirectory(prefix="coralbay-") as folder:
        yield Store(folder)


def _report(args: argparse.Namespace, console: Console, evaluation: Evaluation, results: list[Result]) -> dict[str, Any]:
    """Print the table, and write it, the report and the picture."""
    from CoralBayLib.evaluation.report import draw_curves, markdown, write_markdown, write_report
    from CoralBayLib.evaluation.summary import summarize

    cases = evaluation.cases
    rows = summarize(results, list(cases.names.values()), args.seed)
    left_out = [f"{each.path}: {each.reason}" for each in cases.left_out if each.is_fault]
    report = write_report(
        args.output / _REPORT,
        rows,
        results,
        encoders=[{"name": encoder.name, "title": encoder.title} for encoder in evaluation.encoders],
        method=evaluation.method.version,
        structures=list(cases.names.values()),
        patients={name: cases.described(case) for name, case in cases.cases.items()},
        test=list(evaluation.draws[0].test) if args.test is not None else None,
        seed=args.seed,
        left_out=left_out,
    )
    console.result(markdown(rows))
    write_markdown(args.output / _TABLE, rows)
    title = f"Learning curves: patients left out, 95 % intervals over draws and patients. {NOTICE}"
    drawn = draw_curves(args.output / _PICTURE, rows, title)
    if not drawn:
        console.say(f"{_PICTURE} was not drawn, because matplotlib is not installed (pip install 'matplotlib>=3.8').")
    console.result(f"Written to {args.output}: {_REPORT}, {_TABLE}, {_RESULTS}" + f", {_PICTURE}" * drawn)
    return {"notice": NOTICE, "output": str(args.output), "summary": report["summary"], "left_out": left_out}
