"""What a client and a server send each other, one schema a message."""

from __future__ import annotations

from .checks import hexadecimal, list_of, number, one_of, positive, printable, record, text, three_numbers, tuple_of, whole
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
        "name": printable,
        "title": printable,
        "setting": printable,
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

SERVER_OFFER = Schema(
    header={"coralbay": printable, "device": printable, "encoders": list_of(lambda value: isinstance(value, dict))},
    tensors={},
)
"""What a server tells of itself, beside its versions, see `remote.embedder`."""

SERVER_STATE = Schema(
    header={"state": one_of("receiving", "queued", "running", "done", "failed")},
    optional_header={
        "version": whole(-(2**31)),
        "next": whole(0),
        "place": whole(1),
        "seconds_left": lambda value: number(value) and value >= 0,
        "fraction": lambda value: number(value) and 0 <= value <= 1,
        "message": printable,
        "error": record(error=text, kind=text),
    },
    tensors={},
)
"""The state of a job, see `remote.job`."""
