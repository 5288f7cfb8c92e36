"""Which kernels work on tensors of a device: Triton's on a CUDA device where it is installed, plain torch elsewhere."""

import warnings
from dataclasses import dataclass
from functools import lru_cache
from types import ModuleType

import torch


@dataclass(frozen=True)
class Kernels:
    """The modules for the levels of multigrid and for the vectors of conjugate gradients, and what they are."""

    multigrid: ModuleType
    conjugate: ModuleType
    name: str


def kernels_for(device):
    """The fastest kernels for a device; Triton's are checked as they come into use, see ``checked_torch.py``.

    Example
    -------
    >>> kernels_for("cpu").name
    'torch'
    """
    if torch.device(device).type == "cuda" and _has_triton():
        return _checked(torch.device(device))
    return plain_kernels()


@lru_cache(maxsize=64)
def _checked(device):
    from deconjugate.solver.checked_torch import CheckedKernels

    try:
        fast = triton_kernels()
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        message = f"Triton cannot be imported ({reason}); on {device} plain torch does its work, slower and as exact"
        warnings.warn(message, RuntimeWarning, stacklevel=3)
        return plain_kernels()
    return CheckedKernels(fast, plain_kernels(), device)


def plain_kernels():
    """Those of plain torch, for any device.

    Example
    -------
    >>> plain_kernels().multigrid.__name__
    'deconjugate.solver._multigrid_torch'
    """
    from deconjugate.solver import _conjugate_torch, _multigrid_torch

    return Kernels(_multigrid_torch, _conjugate_torch, "torch")


def triton_kernels():
    """Those of Triton; on tensors of the CPU under TRITON_INTERPRET=1 alone."""
    from deconjugate.solver import _conjugate_triton, _multigrid_triton

    return Kernels(_multigrid_triton, _conjugate_triton, "triton")


def _has_triton():
    from importlib.util import find_spec

    return find_spec("triton") is not None
