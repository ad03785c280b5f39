"""The demo's data: a sample CT and a simulated annotator."""
