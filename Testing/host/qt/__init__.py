"""Qt in PythonQt's manners: the patched PySide6, properties, .ui files, and what the real headers show to Python."""
