"""The demo: a sample CT, a simulated annotator, and the job that they do."""

from CoralBayLib.core.moved import lazy_names

# Of version 0.1.0, which had a module of this name.
__getattr__ = lazy_names(__name__, {"Demo": ".demo.run", "Findings": ".demo.run"})
