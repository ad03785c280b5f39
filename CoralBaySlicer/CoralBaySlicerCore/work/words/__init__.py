"""Search by words, for encoders that embed texts."""
