"""Network weights: where they are published, found, kept, fetched, carried to machines without a network, deleted.

- `sources`: what is known of each encoder's weights.
- `find`: a path, the environment, our folder, the hub's cache, and with consent the hub.
- `shelf`: our folder; `hub`: the Hugging Face hub and its cache; `download`: one file, resumed where it stopped.
- `bundle`: a zip for machines without a network; `manage`: list, fetch, delete.

Importing this imports neither torch nor the hub's client.
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
