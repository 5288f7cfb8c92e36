"""NumPy arrays and torch tensors told apart, without importing torch."""

import sys


def is_tensor(x):
    """Whether x is a torch tensor."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(x, torch.Tensor)


def single(x):
    """An array or a tensor in single precision."""
    return x.float() if is_tensor(x) else x.astype("float32")
