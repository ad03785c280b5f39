"""Tables inside the panels."""
