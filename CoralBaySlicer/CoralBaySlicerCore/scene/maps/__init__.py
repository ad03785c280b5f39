"""Maps that are kept as volumes of their own."""
