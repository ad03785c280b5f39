"""The order in which points were placed, and which answer to a first click the user wants."""
