"""The arithmetic that certified answers are computed in, whatever a caller has chosen for networks."""

from contextlib import ExitStack, contextmanager

import torch


@contextmanager
def plain_arithmetic(device):
    """Inside, products are as precise as their factors, tensors are plain ones, and ``device`` is the present one.

    Off are autocast, TF32 in products and convolutions, which a caller may have switched on, torch's own default for
    convolutions among them: ten bits of mantissa are an error of 1e-3. Off is inference mode too, whose tensors could
    not be changed later. All is as it was afterwards.

    Parameters
    ----------
    device : torch.device

    Example
    -------
    >>> import torch
    >>> a = torch.full((1, 1), 1 + 2.0**-20)
    >>> with torch.autocast("cpu", dtype=torch.bfloat16), plain_arithmetic(torch.device("cpu")):
    ...     (a @ a).dtype
    torch.float32
    """
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.no_grad())
        stack.enter_context(torch.autocast(device.type, enabled=False))
        if device.type == "cuda":
            stack.enter_context(torch.cuda.device(device))
        stack.enter_context(mantissas(whole=True))
        yield


@contextmanager
def mantissas(whole):
    """Inside, float32 products and convolutions of CUDA devices keep their mantissas ``whole``, or are TF32."""
    owners, name, value = [torch.backends.cuda.matmul, torch.backends.cudnn], "allow_tf32", not whole
    if hasattr(torch.backends.cuda.matmul, "fp32_precision"):
        # Where torch has the newer names the older ones must not be asked: they raise where a caller has mixed both.
        cudnn = torch.backends.cudnn
        owners, name = [torch.backends.cuda.matmul, cudnn.conv, cudnn.rnn], "fp32_precision"
        value = "ieee" if whole else "tf32"
    before = [getattr(owner, name) for owner in owners]
    try:
        for owner in owners:
            setattr(owner, name, value)
        yield
    finally:
        for owner, value in zip(owners, before):
            setattr(owner, name, value)
