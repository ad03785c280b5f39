"""What a client and a server send each other, one schema a message."""

from __future__ import annotations

from .checks import hexadecimal, list_of, number, one_of, positive, record, text, three_numbers, tuple_of, whole
from .schema import Schema

SERVER_JOB = Schema(
    header={
        "versions": record(protocol=whole(1), features=whole(1), working=whole(1), store=whole(1)),
        "key": hexadecimal(64),
        "encoder": text,
        "setting": text,
        "weights": text,
        "levels": list_of(text, unique=True, least=1),
        "shape": tuple_of(*[whole(2, 2**14)] * 3),
        "ijk_to_ras": tuple_of(*[tuple_of(*[number] * 4)] * 4),
        "dtype": one_of("<i2", "<f4"),
        "assume_hu": one_of(True, False),
    },
    tensors={},
)
"""The request of a job for a server, see `remote.wire`."""

_AXES = tuple_of(*[whole(1, 2**12)] * 3)
SERVER_ENCODER = Schema(
    header={
        "name": text,
        "title": text,
        "setting": text,
        "weights": text,
        "scan_token": text,
        "tiling": text,
        "spacing_mm": tuple_of(positive, positive, positive),
        "window_hu": tuple_of(number, number),
        "multiple": _AXES,
        "levels": list_of(
            record(
                name=text,
                channels=whole(1),
                stride=_AXES,
                offset=three_numbers,
                pooled=one_of(True, False),
                optional=one_of(True, False),
            ),
            least=1,
        ),
    },
    tensors={},
)
"""An encoder of a server, see `remote.encoder`."""
