"""The module's panel: one file per step, or per section of a step."""
