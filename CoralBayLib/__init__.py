"""CoralBay: CT foundation models made usable: dense embeddings, few-shot segmentation, similar regions.

Pure Python; knows nothing of 3D Slicer. For research use; not a medical device.

Example::

    import CoralBayLib as cb

    volume = cb.read_volume("ct.nrrd")
    encoder = cb.load_encoder("coralbay")
    pyramid = cb.embed(volume, encoder, store=cb.Store())
    prompts = cb.Prompts.load("prompts.json")
    labelmap = cb.segment(volume, pyramid, prompts)
    regions = cb.find_regions(cb.similarity_map(pyramid, cb.Query.point([10, 20, 30])))

Names are loaded at first use, so that importing the package costs nothing and does not import torch.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# Read when torch is first imported. Its threads otherwise spin while they wait for each other: beside any other busy
# program on the same cores a preview then takes ten times as long, and nothing is gained when there is none.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

if TYPE_CHECKING:
    from .embedding import embed
    from .encoders import EncoderCard, encoder_cards, load_encoder, load_encoder_file, register_encoder, unload_encoder_file
    from .errors import CoralBayError
    from .geometry import Grid, Volume, resample
    from .io import read_labelmap, read_volume, write_volume
    from .library import Library
    from .probe import Probe
    from .progress import CancelToken
    from .prompts import Prompts
    from .pyramid import FeaturePyramid
    from .segmentation import segment
    from .segmentation_io import Segment, read_segmentation, write_segmentation
    from .similarity import Query, Region, find_regions, similarity_map
    from .store import Store

_HOME = {
    "embed": "embedding",
    "EncoderCard": "encoders",
    "encoder_cards": "encoders",
    "load_encoder": "encoders",
    "load_encoder_file": "encoders",
    "register_encoder": "encoders",
    "CoralBayError": "errors",
    "Grid": "geometry",
    "Volume": "geometry",
    "resample": "geometry",
    "read_labelmap": "io",
    "read_volume": "io",
    "write_volume": "io",
    "Library": "library",
    "Probe": "probe",
    "CancelToken": "progress",
    "Prompts": "prompts",
    "FeaturePyramid": "pyramid",
    "segment": "segmentation",
    "Segment": "segmentation_io",
    "read_segmentation": "segmentation_io",
    "write_segmentation": "segmentation_io",
    "Query": "similarity",
    "Region": "similarity",
    "find_regions": "similarity",
    "similarity_map": "similarity",
    "Store": "store",
    "unload_encoder_file": "encoders",
}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'CoralBayLib' has no attribute '{name}'")
    return getattr(import_module(f".{_HOME[name]}", __name__), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
