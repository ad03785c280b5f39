"""Libraries of scans: tasks, how their scans are found and opened, and thumbnails of results."""
