"""The command line: one file a verb."""

import sys

from CoralBayLib.core.signals import handled_signals

# A signal may come while the modules are imported, before `main` can handle it.
with handled_signals() as _interruption:
    try:
        from .main import main
    except BaseException:
        if not _interruption.status:
            raise
        print(f"\n{_interruption.message}", file=sys.stderr)
        sys.exit(_interruption.status)

__all__ = ["main"]
