"""Regions that look alike, and maps of the features."""
