"""Training of the networks that answer single clicks."""
