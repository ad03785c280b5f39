"""The Segment Editor: its effects, their factory, and the module. Masking and undo are those of Slicer's own logic."""
