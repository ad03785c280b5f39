"""Slicer's module SampleData, as far as another module registers its own data with it."""

import sys
import types
from typing import Any

registered: list[dict[str, Any]] = []
categories: dict[str, str] = {}
_ONE_EACH = ("uris", "fileNames", "nodeNames", "loadFiles", "loadFileTypes", "checksums")


class SampleDataLogic:
    """Takes registrations; downloads nothing."""

    @staticmethod
    def registerCustomSampleDataCategory(category: str, title: str) -> None:
        """Of Slicer 5.11 and later."""
        categories[category] = title

    @staticmethod
    def registerCustomSampleDataSource(
        category: str = "Custom",
        sampleName: str | None = None,
        uris: Any = None,
        fileNames: Any = None,
        nodeNames: Any = None,
        customDownloader: Any = None,
        thumbnailFileName: str | None = None,
        loadFileTypes: Any = None,
        loadFiles: Any = None,
        loadFileProperties: dict | None = None,
        checksums: Any = None,
        loadFileType: Any = None,
    ) -> None:
        given = dict(locals())
        # One of each for every file: Slicer refuses anything else, and takes the number from the addresses.
        if not isinstance(uris, (str, list, tuple)):
            raise TypeError(f"uris: expected a text or a list of them, got {uris!r}")
        for name in _ONE_EACH[1:]:
            both = isinstance(given[name], (list, tuple)), isinstance(uris, (list, tuple))
            if given[name] is not None and (both[0] != both[1] or (both[0] and len(given[name]) != len(uris))):
                raise ValueError(f"{name}: expected as many as there are uris")
        registered.append(given)


def install() -> None:
    module = types.ModuleType("SampleData", "Slicer's sample data.")
    module.SampleDataLogic = SampleDataLogic
    sys.modules["SampleData"] = module
