"""Slicer's module SampleData, as far as another module registers its own data with it."""

import sys
import types
from typing import Any

registered: list[dict[str, Any]] = []


class SampleDataLogic:
    """Takes registrations; downloads nothing."""

    @staticmethod
    def registerCustomSampleDataCategory(category: str, title: str) -> None:
        """Of Slicer 5.11 and later."""

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
        registered.append(dict(locals()))


def install() -> None:
    module = types.ModuleType("SampleData", "Slicer's sample data.")
    module.SampleDataLogic = SampleDataLogic
    sys.modules["SampleData"] = module
