"""The table of what became of damaged inputs."""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from .pool import MOST_MB, TIMEOUT_S
from .worker import ABORT, EXCEPTION, HANG, MEMORY, OTHER, REFUSED, RIGHT, SILENT, Outcome

PATH = Path(__file__).parent / "RESULTS.md"
_COLUMNS = (RIGHT, REFUSED, OTHER, SILENT, EXCEPTION, ABORT, HANG, MEMORY)
_TITLES = ("right", "refused in words", "other content", "silently different", "other exceptions", "aborts", "hangs", "memory")


def is_clean(outcome: Outcome) -> bool:
    """Whether an input ended as it must."""
    return outcome.state in (RIGHT, REFUSED, OTHER) and not outcome.stray and not outcome.ran


def write(outcomes: Sequence[Outcome], seed: int, command: str, minutes: float, path: Path = PATH) -> None:
    """Write the table.

    Args:
        outcomes: of all inputs.
        seed: of the mutations.
        command: that was run.
        minutes: that it took.
        path: of the file.
    """
    kinds = list(dict.fromkeys(outcome.kind for outcome in outcomes))
    lines = [
        "# Damaged inputs",
        "",
        f"Made by `{command}` (seed {seed}, {datetime.date.today().isoformat()}, {minutes:.0f} minutes). "
        f"{len(outcomes):,} damaged inputs of {len(kinds)} kinds, {sum(map(is_clean, outcomes)):,} of them clean.",
        "",
        "Commands that are killed: [results/kills.md](results/kills.md), made by `make kills`. Damaged requests to a running "
        "server: [results/server.md](results/server.md), made by `python -m Testing.fuzz.server`.",
        "",
        "| kind | mutations | " + " | ".join(_TITLES) + " | stray files | code run | most memory (MB) |",
        "|---|" + "---:|" * (len(_TITLES) + 4),
    ]
    for kind in [*kinds, ""]:
        chosen = [outcome for outcome in outcomes if not kind or outcome.kind == kind]
        states = Counter(outcome.state for outcome in chosen)
        numbers = [len(chosen), *(states[state] for state in _COLUMNS)]
        numbers += [sum(bool(o.stray) for o in chosen), sum(bool(o.ran) for o in chosen)]
        most = max(outcome.peak_mb for outcome in chosen)
        lines.append(f"| {kind or '**all**'} | " + " | ".join(map(str, numbers)) + f" | {most:.0f} |")
    lines += [
        "",
        "- *right*: the result is that of the undamaged input, voxel for voxel, since what was damaged does not matter.",
        "- *refused in words*: an error of CoralBay that says what is wrong; a damaged entry of the store is dropped.",
        "- *other content*: another result where nothing vouches for the damaged bytes. Raw voxels (.nii, .nrrd raw, .mha, "
        ".mhd, DICOM), text files and the headers of image files have no checksum, so nobody can know that a voxel, a "
        "spacing or a point was another one. A file that was edited and whose checksum was made anew is another sound file.",
        "- *silently different*: another result although a checksum vouches for the damaged bytes (compressed voxels, "
        ".nii.gz, our own files). There must be none.",
        f"- *hangs*: longer than {TIMEOUT_S:.0f} s. *memory*: more than {MOST_MB:.0f} MB in the process. *most memory* "
        "includes the libraries, of which torch alone takes some hundred MB.",
        "- *stray files*: left behind, or changed besides the damaged one. *code run*: a program started, a connection "
        "made, or a file changed elsewhere.",
        "",
    ]
    faults = [outcome for outcome in outcomes if not is_clean(outcome)]
    if faults:
        lines += ["## Not clean", "", "| kind | number | mutation | state | words |", "|---|---:|---|---|---|"]
        for o in faults:
            words = "; ".join([*([o.error] if o.error else []), *o.stray, *o.ran]).replace("|", "/").replace("\n", " ")[:200]
            lines.append(f"| {o.kind} | {o.number} | {o.mutation} | {o.state} | {words} |")
        lines.append("")
    path.write_text("\n".join(lines), encoding="utf-8")
