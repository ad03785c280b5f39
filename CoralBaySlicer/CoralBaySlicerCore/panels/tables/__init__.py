"""Tables in the panels."""
