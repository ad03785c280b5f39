"""Where a library is kept (a folder or object storage), its on-disk format, its writer lock, and LanceDB."""
