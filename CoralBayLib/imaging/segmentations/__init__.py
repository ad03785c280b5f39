"""Segmentations in other formats than Slicer's."""
