"""From a scan's file to its draft, one after the other, here or elsewhere."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from CoralBayLib.core.errors import Cancelled, CoralBayError, EncoderError, LibraryError, StoreError, WeightsError
from CoralBayLib.core.paths import error_message
from CoralBayLib.core.progress import CancelToken, Progress, raise_if_cancelled, report
from CoralBayLib.encoders.base import Encoder
from CoralBayLib.features.store import Store

from .discovery import ScanSource
from .records import Draft, draft_scan, read_source


@dataclass(frozen=True)
class Wanted:
    """How drafts are to be made.

    Attributes:
        known: names of scans that need none.
        levels: which tell like regions; None while there is no basis.
        store: where embeddings are looked for and kept.
        assume_hu: skip the check that the values look like HU.
        with_uids: keep DICOM SeriesInstanceUIDs.
    """

    known: Collection[str]
    levels: Sequence[str] | None = None
    store: Store | None = None
    assume_hu: bool = False
    with_uids: bool = False


@dataclass(frozen=True, eq=False)
class Made:
    """What has come of one scan.

    Attributes:
        source: the scan.
        draft: its regions, unless it is known or could not be used.
        known: its name, when it is one of the known.
        reason: why it could not be used.
        seconds: it took.
    """

    source: ScanSource
    draft: Draft | None = None
    known: str = ""
    reason: str = ""
    seconds: float = 0.0


class Workers(Protocol):
    """Those who make drafts."""

    def drafts(
        self, sources: Sequence[ScanSource], wanted: Wanted, progress: Progress | None, cancel: CancelToken | None
    ) -> Iterator[Made]:
        """What comes of each scan, in their order.

        Args:
            sources: the scans.
            wanted: how.
            progress: told how far the scan is that comes next.
            cancel: ends it.

        Raises:
            Cancelled: `cancel` was called.
        """
        ...


class Here:
    """Makes drafts in this process, one after the other."""

    def __init__(self, encoder: Encoder) -> None:
        self.encoder = encoder

    def drafts(
        self, sources: Sequence[ScanSource], wanted: Wanted, progress: Progress | None, cancel: CancelToken | None
    ) -> Iterator[Made]:
        """As in `Workers`."""
        return (make(source, self.encoder, wanted, progress, cancel) for source in sources)


def make(
    source: ScanSource,
    encoder: Encoder,
    wanted: Wanted,
    progress: Progress | None = None,
    cancel: CancelToken | None = None,
) -> Made:
    """One scan's draft.

    Raises:
        Cancelled: `cancel` was called.
        EncoderError: the encoder cannot be used, as it could not for any other scan.
    """
    raise_if_cancelled(cancel)
    report(progress, 0.0, "Reading")
    begin = time.perf_counter()
    try:
        volume, scan = read_source(source)
        if scan in wanted.known:
            return Made(source, known=scan)
        draft = draft_scan(
            source,
            volume,
            scan,
            encoder,
            progress,
            cancel,
            store=wanted.store,
            assume_hu=wanted.assume_hu,
            with_uids=wanted.with_uids,
            levels=wanted.levels,
        )
    except (Cancelled, EncoderError, WeightsError, StoreError, LibraryError):
        # None is the fault of this scan, and the next would meet with the same.
        raise
    except Exception as error:  # whatever is wrong with one scan, the others have a right to be tried
        words = f"It could not be used ({type(error).__name__}: {error_message(error)})."
        return Made(source, reason=str(error) if isinstance(error, CoralBayError) else words)
    return Made(source, draft, seconds=time.perf_counter() - begin)
