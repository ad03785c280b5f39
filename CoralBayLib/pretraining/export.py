"""What a training gives: weights that every loader of the form reads, a card, and a file that registers them by name."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save

from CoralBayLib.core.errors import Remedy, TrainingError
from CoralBayLib.core.notice import NOTICE
from CoralBayLib.core.paths import atomic_write
from CoralBayLib.encoders.cards import CardInput, CardLevel, CardSetting, EncoderCard, shipped_card, shipped_names

from .network import ENCODERS, Student
from .settings import Settings
from .state import Plan

_PLUGIN = '''"""Registers the encoder '{name}', made by `coralbay pretrain`. Use: --encoder-file {name}.py"""

from CoralBayLib.pretraining.trained import register_trained

register_trained(__file__, form="{form}")
'''


def require_name(output: Path, overwrite: bool = False) -> None:
    """Refuse an output whose name, which becomes the encoder's name, belongs to another encoder or to existing files.

    Args:
        output: the weights file.
        overwrite: whether existing files may be replaced.

    Raises:
        TrainingError: the name is taken, or one of the files that will be written exists.
    """
    if output.stem in shipped_names():
        raise TrainingError(f"There is an encoder '{output.stem}'. Choose another name for the weights.")
    for path in files_of(output):
        if path.exists() and not overwrite:
            raise TrainingError(f"{path} exists already.", remedy=Remedy.OVERWRITE)


def files_of(output: Path) -> list[Path]:
    """The files that are written: the weights, the cards, and the file that registers them."""
    return [output, *(output.with_suffix(suffix) for suffix in (".json", ".md", ".py"))]


def export(output: Path, teacher: Student, done: int, plan: Plan, origin: str) -> None:
    """Write the weights of the teacher, its cards, and the file that registers it.

    Args:
        output: the weights file, `.safetensors`.
        teacher: the network whose weights are written, without its head.
        done: number of steps done.
        plan: of the training.
        origin: where the initial weights came from.
    """
    tensors = network_weights(teacher)
    recipe = {"steps_done": done, "scans": len(plan.scans), "initial_weights": origin, "settings": plan.settings.as_dict()}
    with atomic_write(output) as temporary:
        # Not by `save_file`, whose files only their owner can read.
        temporary.write_bytes(save(tensors, metadata={"format": "pt", "coralbay.pretrain": json.dumps(recipe)}))
    card = make_card(output, plan, done, tensors, origin)
    plugin = _PLUGIN.format(name=output.stem, form=plan.settings.form)
    texts = (json.dumps(card.as_dict(), indent=2), describe(card, plan, done, origin), plugin)
    for path, text in zip(files_of(output)[1:], texts, strict=True):
        with atomic_write(path) as temporary:
            temporary.write_text(text, encoding="utf-8")


def network_weights(student: Student) -> dict[str, torch.Tensor]:
    """The tensors of the network without the head, with the keys of the published file."""
    return {key: value.detach().cpu().contiguous().clone() for key, value in student.backbone.state_dict().items()}


def make_card(output: Path, plan: Plan, done: int, tensors: Mapping[str, torch.Tensor], origin: str) -> EncoderCard:
    """The card of the trained encoder, as `read_card` reads it."""
    settings = plan.settings
    like, encoder = shipped_card(settings.form), ENCODERS[settings.form]
    strides = {"enc0": 1, "enc1": 2, "enc2": 4, "enc3": 8, "hidden3": 16, "dec4": 32}
    widths = {"enc0": 1, "enc1": 1, "enc2": 2, "enc3": 4, "hidden3": 8, "dec4": 16}
    c = tensors["swinViT.patch_embed.proj.weight"].shape[0]
    levels = tuple(CardLevel((strides[n],) * 3, c * widths[n]) for n in encoder.level_names)
    pooled = sum(c * widths[n] for n in encoder.level_names if n != "hidden3")
    note = like.input.note if like.input else "The whole scan is processed at once."
    return EncoderCard(
        name=output.stem,
        title=output.stem,
        summary=f"CoralBay's network, self-distilled on {len(plan.scans)} CTs ({done} of {settings.steps} steps).",
        good_for="Scans like those it was trained on. Compare it with its initial weights on your own labels before use.",
        paper="arXiv 2606.03888",
        citation="Method: CoralBay, arXiv:2606.03888; DINO, arXiv:2104.14294.",
        code_licence="Apache-2.0",
        weights_licence=f"As the training scans and the initial weights allow ({_license_of(settings)})",
        restrictions="",
        source="coralbay pretrain",
        parameters=sum(value.numel() for value in tensors.values() if value.is_floating_point()),
        input=CardInput("RAS", (settings.spacing_mm,) * 3, ((-1000, 1000),), note),
        levels=levels,
        embedding_size=pooled,
        weights_bytes=output.stat().st_size,
        limits="Not evaluated by CoralBay's authors. " + NOTICE,
        settings=tuple(CardSetting(each.name, each.title) for each in like.settings),
        position=1,
    )


def describe(card: EncoderCard, plan: Plan, done: int, origin: str) -> str:
    """The card as Markdown, with how the weights were made."""
    s = plan.settings
    rows: dict[str, Any] = {
        "form": f"{s.form}, {s.spacing_mm:g} mm voxels, {card.parameters:,} parameters, embedding of {card.embedding_size}",
        "initial weights": origin,
        "scans": f"{len(plan.scans)} CTs" + (f"; {plan.left_out} more could not be used" if plan.left_out else ""),
        "steps": f"{done} of {s.steps}, {s.batch} scans each, seed {s.seed}",
        "views": f"2 global crops of {s.global_size}^3 voxels ({s.global_size * s.spacing_mm:g} mm), {s.local_crops} "
        f"local crops of {s.local_size}^3 ({s.local_size * s.spacing_mm:g} mm)",
        "head": f"{s.hidden} hidden, {s.bottleneck} bottleneck, {s.prototypes} prototypes",
        "teacher": f"momentum {s.teacher_momentum:g} to 1, temperature {s.teacher_temperature[0]:g} to "
        f"{s.teacher_temperature[1]:g}, centering {s.centering}",
        "student": f"temperature {s.student_temperature:g}, AdamW, learning rate {s.peak_lr:.3g} to {s.min_lr:g}, weight decay "
        f"{s.weight_decay[0]:g} to {s.weight_decay[1]:g}",
        "license": card.weights_licence,
    }
    table = "\n".join(f"| {name} | {value} |" for name, value in rows.items())
    return (
        f"# {card.title}\n\n{card.summary} The weights are those of the teacher. {NOTICE}\n\n| | |\n|---|---|\n{table}\n\n"
        "Method: self-distillation (DINO, arXiv 2104.14294) of a hierarchical 3D Swin transformer on the concatenation of its "
        f"pooled levels (CoralBay, arXiv 2606.03888).\n\nUse:\n\n    coralbay embed CT --encoder {s.form} --weights "
        f"{card.name}.safetensors\n\nor by its own name, beside other encoders:\n\n    coralbay evaluate PATIENTS --encoders "
        f"{s.form},{card.name} --encoder-file {card.name}.py\n\nTheir quality was not measured during training.\n"
    )


def _license_of(settings: Settings) -> str:
    if settings.init == "random":
        return "random initial weights"
    return f"{settings.init}: {shipped_card(settings.init).weights_licence}"
