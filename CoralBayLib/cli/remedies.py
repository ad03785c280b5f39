"""What a user of the command line can do about an error."""

from __future__ import annotations

from collections.abc import Container

from CoralBayLib.core.errors import CoralBayError, Remedy

WORDS = {
    Remedy.GET_WEIGHTS: (
        "Run it again with --download to download the weights where a download is offered, --weights FILE for a local "
        "file, or --encoder NAME for another encoder, such as --encoder coralbay-mini."
    ),
    Remedy.CHOOSE_WEIGHTS_FILE: "Choose another file with --weights FILE, or leave --weights out.",
    Remedy.CHOOSE_ENCODER: "Choose an encoder that fits with --encoder NAME, and its mode with --setting NAME.",
    Remedy.CHOOSE_DEVICE: "Choose another device with --device: auto, cpu, cuda or cuda:1.",
    Remedy.CHOOSE_SERIES: "Choose one series with --series UID.",
    Remedy.ASSUME_HU: "If you are sure that the values are HU, run it again with --assume-hu.",
    Remedy.NAME_PATIENTS: (
        "Name the column of patients with --patient-column COLUMN, or add --one-scan-per-patient if every scan is of "
        "another patient."
    ),
    Remedy.CREATE_LIBRARY: "Create it with `coralbay library add`, or choose another with --library FOLDER.",
    Remedy.ADD_SCANS: "Add scans with `coralbay library add`.",
    Remedy.ADD_SCANS_AGAIN: "Add the scans again with `coralbay library add`.",
    Remedy.CHECK_LIBRARY: "`coralbay library verify` shows what is wrong.",
    Remedy.REPAIR_LIBRARY: "`coralbay library verify --repair` repairs it.",
    Remedy.INSTALL_PACKAGE: "Install the package: pip install '{package}'",
    Remedy.OVERWRITE: "Add --overwrite to replace it, or rename or remove it.",
    Remedy.CREATE_COHORT: "Create it with `coralbay cohort create`, or name the folder of another.",
    Remedy.RELOCATE_SCANS: "Give the new folder of the scans with `coralbay cohort add COHORT FOLDER --moved`.",
    Remedy.CHECK_SERVER: "Check the address after --server, and that `coralbay serve` runs there.",
    Remedy.CHECK_CERTIFICATE: (
        "Have the certificate renewed, or name the authority that signed it with --server-certificates FILE."
    ),
    Remedy.GIVE_TOKEN: "Write the server's token into a file and name it with --token-file FILE, or set CORALBAY_SERVER_TOKEN.",
    Remedy.MATCH_VERSIONS: "Install the same version of CoralBay on this computer and on the server.",
    Remedy.TRY_LATER: "Try again later, or leave --server out to embed on this computer.",
    Remedy.FREE_MEMORY: "Crop the volume, choose a setting with small windows with --setting, or close other programs.",
}
"""By remedy; {names} in braces are details of the error."""

_NO_DOWNLOAD = "Name the file with --weights FILE, or choose another encoder with --encoder NAME, such as coralbay-mini."
"""`GET_WEIGHTS` for an encoder whose weights are obtained by hand."""

_SEVERAL_ENCODERS = {
    Remedy.GET_WEIGHTS: (
        "Run it again with --download to download the weights where a download is offered, or choose other encoders with "
        "--encoders, such as --encoders coralbay-mini."
    ),
    Remedy.CHOOSE_ENCODER: "Choose encoders that fit with --encoders NAME[,NAME].",
    Remedy.FREE_MEMORY: "Crop the volumes, choose other encoders with --encoders, or close other programs.",
}
"""The same for commands that take several encoders, and no weights and setting of one."""

_TRAINING = {
    Remedy.GET_WEIGHTS: (
        "Run it again with --download to download the weights where a download is offered, --weights FILE for a local "
        "file, or --init coralbay-mini to begin with weights that come with CoralBay."
    ),
    Remedy.OVERWRITE: "Add --overwrite to begin again and replace what is there, or choose another output.",
    Remedy.FREE_MEMORY: "Use --checkpointing, a smaller --batch or smaller crops, or close other programs.",
}
"""The same for training an encoder."""

_OPTIONS = {
    Remedy.GET_WEIGHTS: "download",
    Remedy.CHOOSE_WEIGHTS_FILE: "weights",
    Remedy.CHOOSE_ENCODER: "encoder",
    Remedy.CHOOSE_DEVICE: "device",
    Remedy.CHOOSE_SERIES: "series",
    Remedy.ASSUME_HU: "assume_hu",
    Remedy.NAME_PATIENTS: "patient_column",
    Remedy.OVERWRITE: "overwrite",
    Remedy.CHECK_SERVER: "server",
    Remedy.CHECK_CERTIFICATE: "server",
    Remedy.GIVE_TOKEN: "server",
    Remedy.MATCH_VERSIONS: "server",
    Remedy.TRY_LATER: "server",
}
"""The option that a remedy's words name, which not every command has."""


def remedy_text(error: CoralBayError, options: Container[str]) -> str:
    """What the user can do about an error.

    Args:
        error: the error.
        options: the names of the options that the command has.

    Returns:
        One or two sentences; "" when the error names no remedy, or one that the command does not offer.
    """
    if "encoders" in options and error.remedy in _SEVERAL_ENCODERS:
        return error.fill(_SEVERAL_ENCODERS[error.remedy])
    if "init" in options and error.remedy in _TRAINING:
        return error.fill(_TRAINING[error.remedy])
    if error.remedy is None or _OPTIONS.get(error.remedy, "json") not in options:
        return ""
    if error.remedy is Remedy.GET_WEIGHTS and error.details.get("downloadable") is False:
        return _NO_DOWNLOAD
    return error.fill(WORDS[error.remedy])
