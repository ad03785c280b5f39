"""Work on the worker thread, and its exchange with the main thread."""
