"""Sections of panels, each with widgets of one concern."""
