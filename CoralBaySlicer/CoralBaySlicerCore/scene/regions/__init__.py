"""Regions that look alike: the table of their segments."""
