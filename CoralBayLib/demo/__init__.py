"""The demo's data: a sample CT and a simulated annotator."""

from CoralBayLib.core.moved import lazy_names

# Of version 0.1.0, which had a module of this name.
__getattr__ = lazy_names(__name__, {"Demo": ".cli.demo_run", "Findings": ".cli.demo_run"})
