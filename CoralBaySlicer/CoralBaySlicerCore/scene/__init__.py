"""MRML: nodes made, read and shown; nothing is computed here."""
