"""The network families that come with CoralBay; importing one registers its encoders."""

from . import swin, mini, astra, ctfm, voxelfm, fmct  # noqa: F401, I001  the default comes first
