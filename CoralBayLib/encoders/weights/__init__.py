"""Files of network weights: where they are published, and how they are found, downloaded and kept.

- `sources`: descriptions of weights, and the request for consent to a download.
- `resolve`: finds a file: a path, an environment variable, CoralBay's folder, the hub's cache, with consent the hub.
- `cache`: CoralBay's folder. `hub`: the Hugging Face hub and its cache. `download`: a download that can be resumed.

`encoders.management.manager` and `encoders.management.bundle` apply these to encoders by name. Importing this package imports
neither torch nor the hub's client.
"""

from . import cache
from .resolve import find_weights
from .sources import (
    FALLBACK,
    Consent,
    DownloadRequest,
    FoundWeights,
    PackagedWeights,
    ShippedWeights,
    Weights,
    WeightsSource,
    sha256_of,
)

__all__ = [
    "FALLBACK",
    "Consent",
    "DownloadRequest",
    "FoundWeights",
    "PackagedWeights",
    "ShippedWeights",
    "Weights",
    "WeightsSource",
    "find_weights",
    "sha256_of",
    "cache",
]
