"""An encoder of CoralBay as a backbone of eva.

eva gives crops with axes towards superior, posterior and left, at 1.5 mm, with -175 to 250 HU scaled to [0, 1].
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from CoralBayLib.encoders.networks.orientation import from_spl, to_spl

BOARD_HU = (-175.0, 250.0)
"""What eva scales to 0 and 1."""


class Backbone(nn.Module):
    """A frozen encoder for `eva.vision.models.modules.SemanticSegmentationModule`.

    Args:
        encoder: name of the encoder.
        weights: local weights file.
        setting: inference mode; it has no effect on the features of a crop.
        encoder_file: Python file that registers the encoder; it is run.
        own_range: give the encoder the range of HU that it was made for. Otherwise it gets values from 0 to 1 for -175 to
            250 HU, as eva's own backbones do.
        as_decoder_takes: whether the encoder has the six maps of a SwinUNETR, so that eva's own decoder takes them. They are
            then given in eva's order of axes, otherwise in R, A, S for a `BridgedDecoder`.
    """

    def __init__(
        self,
        encoder: str,
        weights: str | None = None,
        setting: str | None = None,
        encoder_file: str | None = None,
        own_range: bool = True,
        as_decoder_takes: bool = False,
    ) -> None:
        super().__init__()
        from CoralBayLib.encoders import load_encoder, load_encoder_file

        if encoder_file:
            load_encoder_file(encoder_file)
        self._encoder = load_encoder(encoder, weights, device="cpu", setting=setting)
        self._names = tuple(level.name for level in self._encoder.levels)
        self._own_range, self._as_decoder_takes = own_range, as_decoder_takes
        self.network = self._encoder.network

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Compute the maps of a batch of crops.

        Args:
            x: (B, 1, S, P, L) from 0 to 1.

        Returns:
            One tensor for each level of the encoder.
        """
        spec = self._encoder.input
        if self._encoder.device != x.device:
            self._encoder.to(x.device)
        crop = from_spl(x)
        if self._own_range:
            low, high = spec.window_hu
            crop = ((crop * (BOARD_HU[1] - BOARD_HU[0]) + BOARD_HU[0] - low) / (high - low)).clamp(0, 1)
        sides = [max(-(-n // m) * m, least) for n, m, least in zip(crop.shape[2:], spec.multiple, spec.minimum, strict=True)]
        ends = [(0, side - n) for n, side in zip(crop.shape[2:], sides, strict=True)]
        # The last axis first, as torch wants it.
        crop = functional.pad(crop, [amount for pair in ends[::-1] for amount in pair])
        maps = self._encoder.forward_features(crop.contiguous(), self._names)
        # Copies, because a decoder cannot be trained on tensors of the inference mode.
        return [(to_spl(each) if self._as_decoder_takes else each).clone() for each in maps]
