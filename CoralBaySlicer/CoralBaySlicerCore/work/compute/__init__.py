"""Computations on the worker: calls of CoralBayLib that take and return plain data."""
