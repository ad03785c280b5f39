"""Versions of the results of each method.

A line of results counts while it has the version that stands here. Raise a method's version when its scores change: its
lines are then measured anew. `--verify` of `quality`, `clicks` and `transfer` shows whether scores have changed: it runs stored
sessions again and compares all digits.
"""

QUALITY = {
    "coralbay-mini": 1,
    "astra": 1,
    "CoralBay-48 untrained": 1,
    "grow from seeds": 1,
    "random forest on filters": 1,
    "linear on filters": 1,
    "nearest mean HU": 1,
}
"""Of `quality`, by method."""

CLICKS = {
    "coralbay-mini": 3,
    "astra": 3,
    "grow from seeds": 1,
    "random forest on filters": 1,
    "linear on filters": 1,
    "nearest mean HU": 1,
}
"""Of `clicks`, by method."""

TRANSFER = {"adapted": 1, "as it is": 1, "from nothing": 1, "forest": 1}
"""Of `transfer`, by method."""

SUGGEST = 1
"""Of `suggest`."""

LANDMARKS = {"landmarks": 1, "aligned bodies alone": 1, "mean position in the body's box": 1}
"""Of `landmarks`, by method."""

PATIENTS = {
    "coralbay-mini": 1,
    "untrained network": 2,
    "registration": 1,
    "random forest on filters": 1,
    "U-Net from scratch": 1,
}
"""Of `patients`, by method."""

TAUGHT_CLICKS = 1
"""Of `taught_clicks`."""

BODY_REGIONS = 1
"""Of `body_regions`."""
