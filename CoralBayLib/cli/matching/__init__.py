"""Commands that find a place of one scan in another."""
