"""The server that embeds scans for other computers, on Ray Serve. Importing it imports neither Ray nor torch."""
