"""`python -m CoralBayLib.cli`."""

import sys

from . import main

sys.exit(main())
