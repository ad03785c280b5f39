"""Python packages, weights, encoder files, encoder cards and settings of this computer."""
