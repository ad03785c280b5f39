"""Options of the effect in the Segment Editor."""
