"""What probes learn from several patients, and what they suggest in the next one."""
