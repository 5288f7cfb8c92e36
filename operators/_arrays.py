"""Torch tensors told from NumPy arrays, without importing torch."""

import sys


def is_tensor(x):
    """Whether x is a torch tensor."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(x, torch.Tensor)
