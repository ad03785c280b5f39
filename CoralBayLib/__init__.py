"""CoralBay: CT foundation models made usable: dense embeddings, few-shot segmentation, similar regions.

Pure Python; knows nothing of 3D Slicer. For research use; not a medical device.

Example::

    import CoralBayLib as cb

    volume = cb.read_volume("ct.nrrd")
    encoder = cb.load_encoder("coralbay")
    pyramid = cb.embed(volume, encoder, store=cb.Store())
    prompts = cb.read_prompts("prompts.json")
    labelmap = cb.segment(volume, pyramid, prompts)
    regions = cb.find_regions(cb.similarity_map(pyramid, cb.Query.point([10, 20, 30])))

Names are loaded at first use, so that importing the package costs nothing and does not import torch.
"""

from __future__ import annotations

import os

from .core import __version__ as __version__
from .core.moved import lazy_names, register

# Read when torch is first imported. Its threads otherwise spin while they wait for each other: beside any other busy
# program on the same cores a preview then takes ten times as long, and nothing is gained when there is none.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

if not any(os.environ.get(name) for name in ("LOGNAME", "USER", "LNAME", "USERNAME")):
    import getpass

    try:
        getpass.getuser()
    except (KeyError, ImportError, OSError):
        # No entry in the list of users, as in a container. MONAI and torch ask for the name when they are imported.
        os.environ["LOGNAME"] = "user"

# Type checkers take it for true. The module `typing` is not imported: until the command line handles signals, which is
# after this, an interrupted command ends with a traceback.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from .cohort.cohort import Cohort
    from .core.errors import CoralBayError
    from .core.progress import CancelToken
    from .encoders import EncoderCard, encoder_cards, load_encoder, load_encoder_file, register_encoder, unload_encoder_file
    from .features.embedding import embed
    from .features.pyramid import FeaturePyramid
    from .features.store import Store
    from .fewshot.constraints.boxes import Box
    from .fewshot.options import Options
    from .fewshot.preview import Preview
    from .fewshot.probe import Probe
    from .fewshot.prompt_io import read_prompts
    from .fewshot.prompts import Prompts
    from .fewshot.segmenter import Segmenter, segment
    from .imaging.grid import Grid, Volume
    from .imaging.inspection import inspect_scan
    from .imaging.resampling import resample
    from .imaging.segmentation_io import Segment, read_segmentation, write_segmentation
    from .imaging.segmentations.dicom_seg import write_dicom_seg
    from .imaging.volume_io import read_labelmap, read_volume, write_volume
    from .library import Library
    from .remote.embedder import RemoteEmbedder
    from .similarity.landmarks import Landmark, Landmarks
    from .similarity.matching import Matches, match_points
    from .similarity.search import Query, Region, find_regions, similarity_map
    from .similarity.words import word_map

_HOME = {
    "Cohort": "cohort.cohort",
    "Box": "fewshot.constraints.boxes",
    "embed": "features.embedding",
    "EncoderCard": "encoders",
    "encoder_cards": "encoders",
    "load_encoder": "encoders",
    "load_encoder_file": "encoders",
    "register_encoder": "encoders",
    "CoralBayError": "core.errors",
    "Grid": "imaging.grid",
    "Volume": "imaging.grid",
    "inspect_scan": "imaging.inspection",
    "resample": "imaging.resampling",
    "read_labelmap": "imaging.volume_io",
    "read_volume": "imaging.volume_io",
    "write_volume": "imaging.volume_io",
    "Library": "library",
    "RemoteEmbedder": "remote.embedder",
    "Probe": "fewshot.probe",
    "CancelToken": "core.progress",
    "Prompts": "fewshot.prompts",
    "FeaturePyramid": "features.pyramid",
    "read_prompts": "fewshot.prompt_io",
    "Options": "fewshot.options",
    "Preview": "fewshot.preview",
    "Segmenter": "fewshot.segmenter",
    "segment": "fewshot.segmenter",
    "Segment": "imaging.segmentation_io",
    "read_segmentation": "imaging.segmentation_io",
    "write_dicom_seg": "imaging.segmentations.dicom_seg",
    "write_segmentation": "imaging.segmentation_io",
    "Landmark": "similarity.landmarks",
    "Landmarks": "similarity.landmarks",
    "match_points": "similarity.matching",
    "Matches": "similarity.matching",
    "Query": "similarity.search",
    "Region": "similarity.search",
    "find_regions": "similarity.search",
    "similarity_map": "similarity.search",
    "word_map": "similarity.words",
    "Store": "features.store",
    "unload_encoder_file": "encoders",
}

__all__ = sorted(_HOME)

__getattr__ = lazy_names(__name__, _HOME)
register()


def __dir__() -> list[str]:
    return [*globals(), *__all__]
