"""What is computed on the worker, and the way between it and the main thread."""
