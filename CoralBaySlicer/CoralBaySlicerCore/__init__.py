"""The parts of the module CoralBaySlicer, one concern a file.

Nothing here computes: numbers come from CoralBayLib, on a worker thread; MRML is touched on the main thread alone.
torch and all that needs it are imported by that worker, at the first use.
"""

from .bootstrap import make_importable

make_importable()
