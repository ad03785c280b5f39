"""Module paths of version 0.1.0, which keep working for one release with a warning, and names that are loaded at first use."""

from __future__ import annotations

import sys
import warnings
from importlib import import_module
from importlib.machinery import ModuleSpec

# Every command imports this before it handles signals, so it imports little.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from types import ModuleType
    from typing import Any

_PACKAGE = "CoralBayLib"

_MOVED: dict[str, tuple[str, ...]] = {
    "basis": ("features.whitening",),
    "cli_ct": ("cli.options", "cli.common"),
    "cli_encoders": ("cli.encoders",),
    "cli_library": ("cli.library",),
    "cli_scans": ("cli.scans",),
    "cli_weights": ("cli.weights",),
    "console": ("cli.console",),
    "contact_sheet": ("demo.contact_sheet",),
    "contrast": ("fewshot.evidence.intensity",),
    "ct": ("imaging.hounsfield",),
    "devices": ("core.devices",),
    "dicom": ("imaging.dicom",),
    "embedding": ("features.embedding", "features.windows"),
    "encoders.axes": ("encoders.networks.orientation",),
    "encoders.checkpoints": ("encoders.networks.checkpoints", "encoders.networks.strict_loading"),
    "encoders.ctfm": ("encoders.ct_fm",),
    "encoders.families": ("encoders.builtin",),
    "encoders.fmct": ("encoders.fm_ct",),
    "encoders.mini": ("encoders.coralbay_mini",),
    "encoders.own": ("encoders.plugins",),
    "encoders.swin": ("encoders.coralbay",),
    "encoders.swin_attention": ("encoders.networks.swin_attention",),
    "encoders.vit": ("encoders.networks.attention",),
    "encoders.weights.bundle": ("encoders.management.bundle",),
    "encoders.weights.find": ("encoders.weights.resolve",),
    "encoders.weights.manage": ("encoders.management.manager",),
    "encoders.weights.shelf": ("encoders.weights.cache",),
    "errors": ("core.errors",),
    "expected": ("fewshot.uncertainty",),
    "geometry": ("imaging.grid", "imaging.resampling"),
    "image_features": ("fewshot.evidence.voxel_features",),
    "inside": ("similarity.feature_maps",),
    "io": ("imaging.volume_io",),
    "library.adding": ("library.ingest",),
    "library.bucket": ("library.storage.object_store",),
    "library.checks": ("library.verify",),
    "library.database": ("library.storage.lance", "library.storage.lance_errors"),
    "library.exporting": ("library.export",),
    "library.folder": ("library.storage.folder", "library.storage.format"),
    "library.index": ("library.storage.index",),
    "library.lease": ("library.storage.lock",),
    "library.making": ("library.workers", "library.drafts"),
    "library.on_ray": ("library.ray_workers",),
    "library.place": ("library.storage.base", "library.storage.open"),
    "library.plan": ("imaging.discovery",),
    "library.rows": ("library.records", "library.drafts"),
    "library.writing": ("library.transactions",),
    "matching": ("features.alignment",),
    "nearness": ("fewshot.evidence.geodesic",),
    "packing": ("features.compression",),
    "paths": ("core.paths",),
    "preprocessing": ("features.preprocessing",),
    "probe": ("fewshot.probe",),
    "progress": ("core.progress",),
    "prompt_files": ("fewshot.prompt_io",),
    "prompts": ("fewshot.prompts",),
    "pyramid": ("features.pyramid",),
    "regions": ("similarity.regions",),
    "resources": ("core.resources",),
    "sample": ("demo.sample",),
    "scans": ("scan_probes",),
    "scans.charts": ("scan_probes.charts",),
    "scans.embeddings": ("scan_probes.embeddings",),
    "scans.evaluation": ("scan_probes.evaluation",),
    "scans.model": ("scan_probes.model",),
    "scans.report": ("scan_probes.report",),
    "scans.saliency": ("scan_probes.saliency",),
    "scans.scores": ("scan_probes.metrics",),
    "scans.splits": ("scan_probes.splits",),
    "scans.stability": ("scan_probes.perturbation",),
    "scans.table": ("scan_probes.tables.table", "scan_probes.labels", "scan_probes.tables.rows"),
    "segmentation": ("fewshot.segmenter", "fewshot.labeling"),
    "segmentation_io": ("imaging.segmentation_io",),
    "shared_basis": ("features.shared_basis",),
    "simulate": ("demo.annotator",),
    "store": ("features.store",),
    "tensor_files": ("core.tensor_files",),
    "transfer": ("fewshot.transfer",),
    "uncertainty": ("fewshot.uncertainty",),
    "whereabouts": ("fewshot.localization",),
}
"""Old path: the new ones, all relative to the package. A name of a module that was split is looked up in each in turn."""


class MovedModules:
    """Finds modules under the paths that they had in version 0.1.0, in `sys.meta_path`.

    It comes first there: the ordinary finder would load a submodule of a renamed package a second time under the old path.
    An import of any other module costs one look-up in a dictionary.
    """

    def __init__(self, moved: Mapping[str, Sequence[str]]) -> None:
        self._moved = {f"{_PACKAGE}.{old}": [f"{_PACKAGE}.{new}" for new in every] for old, every in moved.items()}

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        """The spec of an old path; None for every other path."""
        return ModuleSpec(fullname, self) if fullname in self._moved else None  # type: ignore[arg-type]

    def create_module(self, spec: ModuleSpec) -> None:
        """Leave the module's creation to the import system."""

    def exec_module(self, module: ModuleType) -> None:
        """Put the moved module itself in place of the old one, or look its names up when there are several."""
        old = module.__name__
        new = self._moved[old]
        warnings.warn(
            f"{old} is called {' and '.join(new)} now; {old} goes in the next release.", DeprecationWarning, stacklevel=2
        )
        if len(new) == 1:
            sys.modules[old] = import_module(new[0])
        else:
            module.__getattr__ = names_of(old, new)  # type: ignore[method-assign]


def register() -> None:
    """Make the old paths importable; once, also when the package is loaded again."""
    if not any(type(finder).__qualname__ == MovedModules.__qualname__ for finder in sys.meta_path):
        sys.meta_path.insert(0, MovedModules(_MOVED))  # type: ignore[arg-type]


def names_of(module: str, places: Sequence[str]) -> Callable[[str], Any]:
    """A `__getattr__` for a module whose names lie in other modules, which are imported at first use.

    Args:
        module: its own full name.
        places: full names of the others, in the order of the search.
    """

    def get(name: str) -> Any:
        for place in () if name.startswith("__") else places:
            try:
                return getattr(import_module(place), name)
            except AttributeError:
                continue
        raise AttributeError(f"module '{module}' has no attribute '{name}'")

    return get


def lazy_names(module: str, home: Mapping[str, str]) -> Callable[[str], Any]:
    """A `__getattr__` for a package that offers names of its modules and imports these at first use.

    Args:
        module: the package's `__name__`.
        home: for each name the module that defines it, relative to the package; one more dot leads to the package above.
    """

    def get(name: str) -> Any:
        if name not in home:
            raise AttributeError(f"module '{module}' has no attribute '{name}'")
        return getattr(import_module(f".{home[name]}", module), name)

    return get
