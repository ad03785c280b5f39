"""The client of `coralbay serve`: embeds scans on another computer. Importing it imports no torch."""
