"""Which device and precision a network runs in."""

DEVICES = ("auto", "cpu", "cuda")


def choose(device="auto"):
    """A torch device from "auto", "cpu", "cuda" or "cuda:N".

    "auto" is the first CUDA device where there is one, else the processor.

    Parameters
    ----------
    device : str or torch.device

    Raises
    ------
    ValueError
        For a name that is none of these, or "cuda" without a CUDA device.

    Example
    -------
    >>> from deconjugate.operators.learned.device import choose
    >>> choose("cpu").type
    'cpu'
    """
    import torch

    name = str(device)
    if name.split(":")[0] not in DEVICES:
        raise ValueError(f"device is {name!r}; choose from {', '.join(DEVICES)}")
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise ValueError(f"device is {name!r}, but torch {torch.__version__} finds no CUDA device; use 'cpu' or 'auto'")
    return torch.device(name)


def deterministic(device):
    """Ask for results that repeat bit for bit on the same device: no atomic sums, no timing of algorithms."""
    import os

    import torch

    if torch.device(device).type == "cuda":
        # Read by cuBLAS when its handle is made, which is after this.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.backends.cudnn.benchmark = False
    torch.use_deterministic_algorithms(True, warn_only=True)


def autocast(device, precision="single"):
    """A context in which matrix products run in ``precision``: "single", "tf32" or "bfloat16".

    Sums, losses, weights and the optimiser stay in float32 whatever is chosen. "tf32" is "single" on a processor.
    Directions for a linear solver want "single": A multiplies their highest frequencies, rounding first of all.

    Raises
    ------
    ValueError
        For another precision.
    """
    import torch

    if precision not in ("single", "tf32", "bfloat16"):
        raise ValueError(f"precision is {precision!r}; choose from single, tf32, bfloat16")
    kind = torch.device(device).type
    if kind == "cuda":
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision != "single"
    return torch.autocast(kind, dtype=torch.bfloat16, enabled=precision == "bfloat16")
