"""Which kernels work on tensors of a device: Triton's on a CUDA device where it is installed, plain torch elsewhere."""

from dataclasses import dataclass
from types import ModuleType

import torch


@dataclass(frozen=True)
class Kernels:
    """The modules for the levels of multigrid and for the vectors of conjugate gradients, and what they are."""

    multigrid: ModuleType
    conjugate: ModuleType
    name: str


def kernels_for(device):
    """The fastest kernels for a device.

    Example
    -------
    >>> kernels_for("cpu").name
    'torch'
    """
    if torch.device(device).type == "cuda" and _has_triton():
        return triton_kernels()
    return plain_kernels()


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
