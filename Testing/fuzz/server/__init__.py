"""Damaged requests to `coralbay serve`."""
