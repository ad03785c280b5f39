"""Damaged inputs of every kind that is read: each must give the right result or an error in words.

`python -m Testing.fuzz` runs all and writes RESULTS.md. Kinds are in `images`, `patients`, `series`, `written`,
`weights` and `server`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


class _Kinds(Mapping[str, Any]):
    """The kinds by name; the libraries that make them are imported when one is first asked for."""

    def _all(self) -> dict[str, Any]:
        from .images import IMAGES
        from .patients import PATIENTS
        from .series import SERIES
        from .server.answers import ANSWERS
        from .server.received import RECEIVED
        from .weights import WEIGHTS
        from .written import WRITTEN

        return {**IMAGES, **SERIES, **WRITTEN, **PATIENTS, **WEIGHTS, **ANSWERS, **RECEIVED}

    def __getitem__(self, name: str) -> Any:
        from .faulty import FAULTY

        return FAULTY[name] if name in FAULTY else self._all()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._all())

    def __len__(self) -> int:
        return len(self._all())


KINDS = _Kinds()
