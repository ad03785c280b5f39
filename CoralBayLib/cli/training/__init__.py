"""The commands that train encoders."""
