"""Who makes the drafts of scans: this process, or others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from CoralBayLib.core.progress import CancelToken, Progress
from CoralBayLib.encoders.base import Encoder
from CoralBayLib.imaging.discovery import ScanSource

from .drafts import DraftOptions, DraftResult, make_draft


class DraftWorkers(Protocol):
    """Makes drafts; implemented by `LocalWorkers` and `RayWorkers`."""

    def drafts(
        self, sources: Sequence[ScanSource], options: DraftOptions, progress: Progress | None, cancel: CancelToken | None
    ) -> Iterator[DraftResult]:
        """The result of each scan, in their order.

        Args:
            sources: the scans.
            options: see `DraftOptions`.
            progress: called with the fraction done of the next scan, and a message.
            cancel: ends the work.

        Raises:
            Cancelled: `cancel` was called.
        """
        ...


class LocalWorkers:
    """Makes drafts in this process, one after the other.

    Args:
        encoder: from `load_encoder`.
    """

    def __init__(self, encoder: Encoder) -> None:
        self.encoder = encoder

    def drafts(
        self, sources: Sequence[ScanSource], options: DraftOptions, progress: Progress | None, cancel: CancelToken | None
    ) -> Iterator[DraftResult]:
        """See `DraftWorkers.drafts`."""
        return (make_draft(source, self.encoder, options, progress, cancel) for source in sources)
