"""The slice views, the 3D view, and how they are laid out."""
