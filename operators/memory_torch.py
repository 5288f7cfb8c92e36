"""Whether an error says that a device's memory is full."""

import torch

# What libraries say that ask the driver for memory themselves.
_SAID = ("out of memory", "CUFFT_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED", "CUBLAS_STATUS_ALLOC_FAILED")


def is_full(error):
    """True for torch's error of that name, and for those of the driver and of cuFFT, cuDNN and cuBLAS that mean it.

    Example
    -------
    >>> is_full(RuntimeError("cuFFT error: CUFFT_ALLOC_FAILED")), is_full(RuntimeError("misaligned address"))
    (True, False)
    """
    if isinstance(error, torch.cuda.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(said in str(error) for said in _SAID)
