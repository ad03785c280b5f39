"""Used by every other package: errors, progress, paths, devices, small tensor files. Importing it imports no torch."""

__version__ = "0.1.0"
