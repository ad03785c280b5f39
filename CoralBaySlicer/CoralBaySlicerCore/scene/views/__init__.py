"""The slice views: which scans they show, and the layers that the module draws over them."""
