"""The way to eva, the benchmark of kaiko-ai: its runner evaluates the encoders of CoralBay.

`configuration` writes what eva reads; `backbone` and `decoder` are the classes that the configuration names, and need torch.
Neither is used by the rest of CoralBay.
"""
