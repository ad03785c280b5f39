"""The self-test of the module, on generated data; it needs no internet."""

from .case import CoralBaySlicerTest
from .phantom import make_phantom, write_random_checkpoint

__all__ = ["CoralBaySlicerTest", "make_phantom", "write_random_checkpoint"]
