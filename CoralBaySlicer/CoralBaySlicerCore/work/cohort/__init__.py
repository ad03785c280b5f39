"""A cohort of scans in the scene: tasks that read and write it, and the nodes of the scan that is open."""
