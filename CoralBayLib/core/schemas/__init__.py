"""What the files that CoralBay writes and the messages that it sends must hold, one schema a kind.

`checks` has the checks of single values, `schema` what a schema is, `files` and `wire` the schemas.
"""

from .checks import (
    MAX_LABEL,
    Check,
    finite_matrix,
    grid,
    hexadecimal,
    list_of,
    names_by_label,
    number,
    one_of,
    positive,
    record,
    text,
    three_numbers,
    tuple_of,
    whole,
)
from .files import (
    ATTENTIVE_PROBE,
    BOX_NETWORKS,
    CLICK_NETWORKS,
    LANDMARKS,
    LIBRARY_BASIS,
    LIBRARY_REPORTS,
    PATIENTS_PROBE,
    PROBE,
    PROJECTION,
    SCAN_PROBE,
    SHARED_BASIS,
    STORE_ENTRY,
)
from .schema import Array, Schema
from .wire import SERVER_ENCODER, SERVER_JOB

__all__ = [
    "ATTENTIVE_PROBE",
    "Array",
    "BOX_NETWORKS",
    "CLICK_NETWORKS",
    "Check",
    "LANDMARKS",
    "LIBRARY_BASIS",
    "LIBRARY_REPORTS",
    "MAX_LABEL",
    "PATIENTS_PROBE",
    "PROBE",
    "PROJECTION",
    "SCAN_PROBE",
    "SERVER_ENCODER",
    "SERVER_JOB",
    "SHARED_BASIS",
    "STORE_ENTRY",
    "Schema",
    "finite_matrix",
    "grid",
    "hexadecimal",
    "list_of",
    "names_by_label",
    "number",
    "one_of",
    "positive",
    "record",
    "text",
    "three_numbers",
    "tuple_of",
    "whole",
]
