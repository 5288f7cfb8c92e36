"""Checks that any linear operator must pass."""

import numpy as np


def dot_test(operator, *, rtol=1e-10, dtype=np.float64, seed=0, device=None):
    """Whether <A x, y> = <x, A^T y> for random x and y.

    .. math:: |<A x, y> - <x, A^T y>| \\le rtol \\, ||A x|| \\, ||y||

    Parameters
    ----------
    operator : deconjugate.operators.LinearOperator
    rtol : float, > 0
        About 1e-10 for float64, 1e-4 for float32; larger values accept a worse adjoint.
    dtype : float64 or float32
        Precision of x and y.
    seed : int
    device : str, optional
        Ask with torch tensors on that device in place of NumPy arrays.

    Returns
    -------
    bool

    Example
    -------
    >>> from deconjugate.operators import Binning, dot_test
    >>> dot_test(Binning((6, 9), 3))
    True
    """
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(operator.domain_shape).astype(dtype)
    y = rng.standard_normal(operator.range_shape).astype(dtype)
    if device is None:
        forward, backward = operator.apply(x), operator.adjoint(y)
    else:
        import torch

        given = operator.apply(torch.from_numpy(x).to(device)), operator.adjoint(torch.from_numpy(y).to(device))
        forward, backward = (tensor.numpy(force=True) for tensor in given)
    left = np.vdot(forward.astype(np.float64), y.astype(np.float64))
    right = np.vdot(x.astype(np.float64), backward.astype(np.float64))
    scale = np.linalg.norm(forward.astype(np.float64)) * np.linalg.norm(y.astype(np.float64))
    return bool(abs(left - right) <= rtol * scale)


def operator_norm(operator, *, rtol=1e-3, maxiter=200, seed=0):
    """Largest singular value of A, from below, by power iteration on A^T A.

    .. math:: ||A||_2 = \\max_x ||A x|| / ||x||

    Parameters
    ----------
    operator : deconjugate.operators.LinearOperator
    rtol : float, in (0, 1)
        Stop when an iteration changes the estimate by less than this fraction.
    maxiter : int
    seed : int

    Returns
    -------
    float

    Example
    -------
    >>> from deconjugate.operators import Binning, operator_norm
    >>> round(operator_norm(Binning((6, 6), 2)), 3)
    2.0
    """
    x = np.random.default_rng(seed).standard_normal(operator.domain_shape)
    x /= np.linalg.norm(x)
    estimate = 0.0
    for _ in range(maxiter):
        x = operator.adjoint(operator.apply(x))
        square = np.linalg.norm(x)
        if square == 0.0:
            return 0.0
        x /= square
        previous, estimate = estimate, float(np.sqrt(square))
        if estimate - previous <= rtol * estimate:
            break
    return estimate
