"""Probes other than the linear one: attention over tokens, and nearest neighbors."""
