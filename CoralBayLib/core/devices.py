"""The device to compute on, and its free memory. torch is imported at the first use."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psutil

from .errors import EncoderError, Remedy

if TYPE_CHECKING:
    import torch


def pick_device(wanted: str | torch.device = "auto") -> torch.device:
    """Choose the device to compute on.

    Args:
        wanted: "auto" for a CUDA device that passes a small test, otherwise the CPU; or a torch device or its name.

    Raises:
        EncoderError: the device does not exist or fails its test; the message says why.
    """
    import torch

    if str(wanted) == "auto":
        if torch.cuda.is_available() and _fault(torch.device("cuda")) is None:
            return torch.device("cuda")
        return torch.device("cpu")
    try:
        device = torch.device(wanted)
    except RuntimeError as error:
        raise EncoderError(f"There is no device called '{wanted}'.", remedy=Remedy.CHOOSE_DEVICE) from error
    fault = _fault(device)
    if fault is not None:
        raise EncoderError(f"The device '{device}' cannot be used ({fault}).", remedy=Remedy.CHOOSE_DEVICE)
    return device


def describe(device: torch.device) -> str:
    """A device's name and free memory as text."""
    import torch

    free = available_bytes(device) / 2**30
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)} ({free:.1f} GB free)"
    threads = torch.get_num_threads()
    return f"CPU, {threads} {'thread' if threads == 1 else 'threads'} ({free:.1f} GB free)"


def available_bytes(device: torch.device) -> int:
    """Free memory of the device, in bytes."""
    if device.type == "cuda":
        import torch

        return int(torch.cuda.mem_get_info(device)[0])
    return int(psutil.virtual_memory().available)


def _fault(device: torch.device) -> str | None:
    """Why the device cannot run a 3D convolution; None when it can. A driver can be installed and still fail."""
    import torch

    if device.type == "cpu":
        return None
    try:
        x = torch.ones(1, 1, 4, 4, 4, device=device)
        result = torch.nn.functional.conv3d(x, torch.ones(1, 1, 3, 3, 3, device=device)).sum().item()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        return str(error).strip().splitlines()[0]
    return None if result == 8 * 27 else "a test computation gave a wrong result"
