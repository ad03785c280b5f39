"""The command line: one file a verb."""

import sys

try:
    from .main import main
except KeyboardInterrupt:  # before `main` can handle it
    sys.exit(130)

__all__ = ["main"]
