"""NumPy arrays and torch tensors under one face, without importing torch."""

import sys

import numpy as np


def is_tensor(x):
    """Whether x is a torch tensor."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(x, torch.Tensor)


def single(x):
    """An array or a tensor in single precision."""
    return x.float() if is_tensor(x) else x.astype(np.float32)


def namespace(x):
    """torch for a tensor, else NumPy: for what both call by one name."""
    return sys.modules["torch"] if is_tensor(x) else np
