"""VoCo: CoralBay's network, pretrained by contrasting the positions of volumes in a scan (arXiv 2410.09890)."""

from __future__ import annotations

from functools import partial

from .coralbay import CoralBayEncoder, read_network
from .frozen import loader
from .weights import WeightsSource, find_weights

WEIGHTS = WeightsSource(
    encoder="voco",
    repo_id="Luffy503/VoCo",
    filename="VoCo_B_SSL_head.pt",
    revision="",
    env="VOCO_WEIGHTS",
    licence="Apache-2.0",
    by_hand="Download VoCo_B_SSL_head.pt (or VoCo_L_SSL_head.pt) from https://huggingface.co/Luffy503/VoCo.",
)


class VoCoEncoder(CoralBayEncoder):
    """VoCo as an `Encoder`; see `CoralBayEncoder` for the arguments and the inference modes.

    The default window of HU is that of the authors for abdomen, head and neck; "faithful@-1000:500" is theirs for chests.
    """

    name = "voco"
    title = "VoCo"
    settings = ("faithful", "whole", "faithful@-1000:500")
    window_hu = (-175.0, 250.0)


load = loader(VoCoEncoder, partial(find_weights, WEIGHTS), partial(read_network, VoCoEncoder.name))
