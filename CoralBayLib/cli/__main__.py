"""`python -m CoralBayLib.cli`."""

import sys

from .main import main

sys.exit(main())
