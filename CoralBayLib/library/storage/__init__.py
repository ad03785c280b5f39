"""Where a library lies: a folder or object storage, its format and its lock."""
