"""Small stand-ins for the Python files that Slicer has and the wheel lacks.

They are used only where ``SLICER_PYTHON_DIR`` does not name a folder with the real ones.
"""
