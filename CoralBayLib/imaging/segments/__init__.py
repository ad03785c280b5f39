"""Segments, and how DICOM SEG files hold them."""
