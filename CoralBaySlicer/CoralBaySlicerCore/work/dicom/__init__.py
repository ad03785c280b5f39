"""Slicer's DICOM database, and segmentations written as DICOM."""
