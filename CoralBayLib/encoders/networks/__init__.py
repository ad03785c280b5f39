"""Parts that network families share: attention layers, axis order, and reading checkpoints."""
