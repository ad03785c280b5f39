"""Encoders that also embed texts, so that scans and places can be searched by words. Imports no torch.

- `protocol`: what such an encoder has in addition to the interface of an encoder.
- `vocabulary`: the file of the words that a text is split into, and the splitting.
- `tower`: the network that embeds a text.
"""

from .protocol import TextEncoder, require_text_encoder

__all__ = ["TextEncoder", "require_text_encoder"]
