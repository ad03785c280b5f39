"""Python packages that are needed for some features only, with the versions that fit, as pip takes them.

pyproject.toml has them as extras; a test compares the two.
"""

LIBRARY = "lancedb>=0.40,<0.50"
"""For a library of scans."""
RAY = "ray>=2.50,<3"
"""For embedding on a cluster."""
SERVER = "ray[serve]>=2.50,<3"
"""For a server that embeds scans."""
TEXT = "tokenizers>=0.20,<1"
"""For search by words."""
SURVIVAL = "lifelines>=0.28"
"""For survival probes."""
DICOM = "highdicom>=0.28,<1"
"""For DICOM segmentations."""
PRETRAINING = "lightning>=2.6.4,<3"
"""For training on one's own scans."""
