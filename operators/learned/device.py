"""Which device and precision a network runs in."""

from contextlib import contextmanager, nullcontext

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


PRECISIONS = ("single", "tf32", "bfloat16")


@contextmanager
def products(device, precision="single"):
    """A context in which float32 products may be TF32 on a CUDA device, unless ``precision`` is "single".

    Wraps forward and backward passes alike, and leaves torch's settings as it found them.

    Raises
    ------
    ValueError
        For another precision than "single", "tf32" or "bfloat16".
    """
    import torch

    from deconjugate.operators.precision_torch import mantissas

    _check(precision)
    with mantissas(whole=precision == "single") if torch.device(device).type == "cuda" else nullcontext():
        yield


def autocast(device, precision="single"):
    """A context in which matrix products run in bfloat16 if ``precision`` says so.

    Sums, losses, weights and the optimiser stay in float32 whatever is chosen. Directions for a linear solver want
    "single": A multiplies their highest frequencies, rounding first of all.

    Raises
    ------
    ValueError
        For another precision than "single", "tf32" or "bfloat16".
    """
    import torch

    _check(precision)
    return torch.autocast(torch.device(device).type, dtype=torch.bfloat16, enabled=precision == "bfloat16")


def _check(precision):
    if precision not in PRECISIONS:
        raise ValueError(f"precision is {precision!r}; choose from {', '.join(PRECISIONS)}")
