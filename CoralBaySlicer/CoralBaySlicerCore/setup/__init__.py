"""Python packages, weights, encoder files and settings of this computer."""
