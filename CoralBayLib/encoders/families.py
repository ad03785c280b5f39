"""The network families that come with CoralBay; importing one registers its encoders."""

from . import swin, astra  # noqa: F401, I001  the default comes first
