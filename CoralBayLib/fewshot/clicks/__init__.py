"""Segmentation from single clicks: which region was clicked, and how each further click changes it."""
