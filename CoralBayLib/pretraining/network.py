"""Student and teacher: CoralBay's network, with a projection head on the concatenation of its pooled levels."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import nn

from CoralBayLib.core.errors import Remedy, TrainingError
from CoralBayLib.encoders import load_encoder
from CoralBayLib.encoders.coralbay import CoralBayEncoder, CoralBayNetwork
from CoralBayLib.encoders.coralbay_mini import CoralBayMiniEncoder
from CoralBayLib.encoders.weights import Consent
from CoralBayLib.encoders.weights.sources import sha256_of

from .head import ProjectionHead
from .settings import Settings
from .state import StateFolder, damaged_state

ENCODERS: dict[str, type[CoralBayEncoder]] = {"coralbay": CoralBayEncoder, "coralbay-mini": CoralBayMiniEncoder}
"""The class that runs the weights of each form."""


def initial_backbone(
    settings: Settings, weights: str | Path | None = None, consent: Consent = None
) -> tuple[CoralBayNetwork, str]:
    """The network to begin with, and where its weights come from, with their SHA-256.

    Args:
        settings: say which weights.
        weights: a local file; by default the usual places are searched.
        consent: whether a download is allowed.

    Raises:
        WeightsError: the weights were not found, or do not fit.
    """
    if settings.init == "random":
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            return CoralBayNetwork(settings.feature_size), "random"
    encoder = load_encoder(settings.init, weights, "cpu", consent=consent)
    network: CoralBayNetwork = encoder.network  # type: ignore[assignment]
    return network.train().requires_grad_(True), f"{encoder.weights_source}, SHA-256 {encoder.weights_sha256}"


def continued_backbone(checkpoint: Path) -> tuple[CoralBayNetwork, str]:
    """A network of the size that a training goes on with, and where its initial weights came from.

    The state holds all weights of student and teacher, so the initial ones are not needed again.

    Args:
        checkpoint: the state of the training.

    Raises:
        TrainingError: it is damaged.
    """
    try:
        state = torch.load(checkpoint, map_location="cpu", weights_only=True, mmap=True)
        width = len(state["teacher"]["backbone.swinViT.patch_embed.proj.weight"])
        use_v2 = any(key.startswith("backbone.swinViT.layers1c.") for key in state["teacher"])
        origin = str(state["origin"])
    except Exception as error:  # torch documents no error types, and damaged files raise many
        raise damaged_state(checkpoint) from error
    return CoralBayNetwork(width, use_v2=use_v2), origin


def backbone_to_train(
    folder: StateFolder, settings: Settings, weights: str | Path | None = None, consent: Consent = None
) -> tuple[CoralBayNetwork, str]:
    """The network to train: that of the state, or the initial one; and where its initial weights came from.

    Args:
        folder: with the state.
        settings: of the training.
        weights: a local file of the initial weights.
        consent: whether a download is allowed.

    Raises:
        TrainingError: the training began with other weights than those named now.
        WeightsError: the initial weights are needed, and were not found.
    """
    if not folder.checkpoint.is_file():
        return initial_backbone(settings, weights, consent)
    network, origin = continued_backbone(folder.checkpoint)
    path = Path(weights).expanduser() if weights else None
    if path is not None and path.is_file() and sha256_of(path) not in origin:
        raise TrainingError(
            f"The training in {folder.path} began with other initial weights ({origin}) than {path}. To go on, name these or "
            "none.",
            remedy=Remedy.OVERWRITE,
        )
    return network, origin


def pooled_levels(form: str) -> tuple[str, ...]:
    """The levels of a form that are part of the embedding of a whole scan."""
    return tuple(name for name in ENCODERS[form].level_names if name != "hidden3")


class Student(nn.Module):
    """The network with its projection head.

    Args:
        backbone: the network.
        settings: sizes of the head, and the form that says which levels are pooled.
    """

    def __init__(self, backbone: CoralBayNetwork, settings: Settings) -> None:
        super().__init__()
        self.backbone = backbone
        self.names = pooled_levels(settings.form)
        if "enc0" not in self.names:
            # Not run; several devices wait for the gradient of every parameter that has one.
            backbone.encoder1.requires_grad_(False)
        c = backbone.feature_size
        widths = {"enc0": c, "enc1": c, "enc2": 2 * c, "enc3": 4 * c, "dec4": 16 * c}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed + 1)
            self.head = ProjectionHead(
                sum(widths[name] for name in self.names), settings.hidden, settings.bottleneck, settings.prototypes
            )

    def embed(self, x: torch.Tensor) -> torch.Tensor:
        """Crops (B, 1, R, A, S) to their embeddings (B, channels): the averages of the pooled levels, concatenated."""
        maps = self.backbone.maps(x, self.names)
        return torch.cat([each.float().mean(dim=(2, 3, 4)) for each in maps], dim=1)

    def project(self, views: list[torch.Tensor]) -> torch.Tensor:
        """Views to unit vectors (V, B, bottleneck).

        Args:
            views: (B, v, 1, R, A, S) each, of one size each; V is the sum of all v.
        """
        done = []
        for batch in views:
            count = batch.shape[1]
            # View by view, so that the result is (v, B, ...).
            crops = batch.transpose(0, 1).flatten(0, 1)
            done.append(self.head.project(self.embed(crops)).unflatten(0, (count, -1)))
        return torch.cat(done)

    def forward(self, views: list[torch.Tensor]) -> torch.Tensor:
        """Views, as for `project`, to logits (V, B, prototypes)."""
        return self.head.classify(self.project(views))


def make_teacher(student: Student) -> Student:
    """A copy of the student that is not trained, but follows it (see `follow`)."""
    student.backbone.clear_cache()
    teacher = copy.deepcopy(student).requires_grad_(False)
    teacher.backbone.checkpointing = False
    return teacher


@torch.no_grad()
def follow(teacher: Student, student: Student, momentum: float) -> None:
    """Move each weight of the teacher to momentum * teacher + (1 - momentum) * student."""
    for theirs, own in zip(teacher.parameters(), student.parameters(), strict=True):
        theirs.lerp_(own.to(theirs.dtype), 1 - momentum)


def parameter_groups(student: Student) -> list[dict[str, object]]:
    """Parameters for the optimizer: with weight decay, and without it (biases, norms, tables of the attention)."""
    decayed: list[nn.Parameter] = []
    plain: list[nn.Parameter] = []
    for name, parameter in _trained(student):
        is_plain = parameter.ndim < 2 or name.endswith("relative_position_bias_table")
        (plain if is_plain else decayed).append(parameter)
    return [{"params": decayed, "decayed": True}, {"params": plain, "weight_decay": 0.0, "decayed": False}]


def _trained(student: Student) -> Iterator[tuple[str, nn.Parameter]]:
    return ((name, p) for name, p in student.named_parameters() if p.requires_grad)
