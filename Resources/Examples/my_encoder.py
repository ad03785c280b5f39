"""Example of an encoder file: brightness, contrast and texture of the CT at three scales. It needs no weights.

Try it: coralbay similar ct.nrrd --encoder-file my_encoder.py --point 42,21,-243
"""

import hashlib
from pathlib import Path

import torch
from torch.nn.functional import avg_pool3d

from CoralBayLib.encoders import EncoderCard, register_encoder
from CoralBayLib.encoders.base import InputSpec, LevelSpec, Tiling

STRIDES = (2, 4, 8)


class MyEncoder:
    """The members that CoralBay needs of an encoder; see `CoralBayLib.encoders.base.Encoder`."""

    name, title = "my-encoder", "Texture at three scales"
    # Input: 3 mm voxels along R, A, S; -1000 to 1000 HU scaled to 0 to 1; sides padded to multiples of 8 voxels.
    input = InputSpec((3.0, 3.0, 3.0), (-1000.0, 1000.0), (8, 8, 8))
    # Output: feature i of a level is centered on voxel stride * i + offset of the input.
    levels = tuple(LevelSpec(f"scale{s}", 5, (s, s, s), ((s - 1) / 2,) * 3) for s in STRIDES)
    scan_token = None  # the scan embedding is the average of the levels
    tiling = Tiling("whole", None)  # run on the whole volume at once
    # Identifies the encoder in stored features; use the SHA-256 of the weights file if there is one.
    weights_sha256 = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()
    weights_source = "none"

    def __init__(self, device):
        self.network = torch.nn.Identity()  # usually a torch.nn.Module with weights
        self.to(device)

    def forward_features(self, x, names):
        """Map (1, 1, R, A, S) to one (1, 5, r, a, s) feature map for each name, in the same order."""
        edges = (x - avg_pool3d(x, 3, stride=1, padding=1)).abs()
        maps = torch.cat([x, x**2, torch.sigmoid(20 * x - 10.4), torch.sigmoid(20 * x - 12), 10 * edges], dim=1)
        return [avg_pool3d(maps, level.stride) for level in self.levels if level.name in names]

    def memory_bytes(self, window, names):
        """Estimate the peak memory for a window of (r, a, s) voxels, in bytes."""
        return 60 * window[0] * window[1] * window[2]

    def to(self, device):
        """Move the network to a device, such as "cpu" or "cuda"."""
        self.device = torch.device(device)


@register_encoder(EncoderCard(MyEncoder.name, MyEncoder.title, "Brightness, contrast and texture; not trained."))
def load(weights=None, device="cpu", consent=None, *, setting=None):
    """Make the encoder on a device. It has no weights to load and no inference modes."""
    return MyEncoder(device)
