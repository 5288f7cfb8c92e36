"""Linear maps between n-D arrays."""

from abc import abstractmethod

import numpy as np
import scipy.sparse.linalg

from deconjugate.operators._arrays import is_tensor


class LinearOperator(scipy.sparse.linalg.LinearOperator):
    """A linear map y = A x from arrays of ``domain_shape`` to arrays of ``range_shape``.

    It is a :class:`scipy.sparse.linalg.LinearOperator` of shape (range size, domain size) acting on
    flattened arrays, so SciPy, PyAMG and PyLops accept it; ``apply`` and ``adjoint`` act on n-D arrays.

    A subclass writes ``_forward`` and ``_backward``, each from a C-contiguous floating array
    (batch, \\*shape in) to (batch, \\*shape out). Single precision stays single. One that sets ``takes_tensors``
    gets torch tensors as well, and gives tensors on the same device, through which gradients flow.

    Parameters
    ----------
    domain_shape, range_shape : tuple of int
        Shapes of x and of y = A x.
    dtype : dtype
        What SciPy is told of the operator; the arithmetic follows the input.

    Example
    -------
    >>> import numpy as np
    >>> class Turn(LinearOperator):
    ...     def __init__(self, shape):
    ...         super().__init__(shape, shape[::-1])
    ...     def _forward(self, x):
    ...         return np.ascontiguousarray(np.rot90(x, axes=(1, 2)))
    ...     def _backward(self, y):
    ...         return np.ascontiguousarray(np.rot90(y, -1, axes=(1, 2)))
    >>> turn = Turn((3, 5))
    >>> turn.apply(np.ones((3, 5), np.float32)).shape, turn.shape, (turn.H @ turn).domain_shape
    ((5, 3), (15, 15), (3, 5))
    """

    takes_tensors = False

    def __init__(self, domain_shape, range_shape, dtype=np.float64):
        self.domain_shape = tuple(int(n) for n in domain_shape)
        self.range_shape = tuple(int(n) for n in range_shape)
        size = lambda shape: int(np.prod(shape, dtype=np.int64))  # noqa: E731
        super().__init__(np.dtype(dtype), (size(self.range_shape), size(self.domain_shape)))

    def apply(self, x):
        """A x for x of shape (..., \\*domain_shape); float32 in, float32 out, else float64; a tensor for a tensor.

        Raises
        ------
        ValueError
            The trailing axes of x are not ``domain_shape``.
        TypeError
            x is complex or not numeric; x is a tensor and the operator takes none.
        """
        return self._over_batch(self._forward, x, self.domain_shape, self.range_shape, "x")

    def adjoint(self, y):
        """A^T y for y of shape (..., \\*range_shape); see :meth:`apply`."""
        return self._over_batch(self._backward, y, self.range_shape, self.domain_shape, "y")

    @abstractmethod
    def _forward(self, x): ...

    @abstractmethod
    def _backward(self, y): ...

    def _matvec(self, x):
        return self.apply(np.reshape(x, self.domain_shape)).ravel()

    def _rmatvec(self, y):
        return self.adjoint(np.reshape(y, self.range_shape)).ravel()

    def _matmat(self, X):
        return self.apply(np.ascontiguousarray(X.T).reshape(-1, *self.domain_shape)).reshape(X.shape[1], -1).T

    def _rmatmat(self, Y):
        return self.adjoint(np.ascontiguousarray(Y.T).reshape(-1, *self.range_shape)).reshape(Y.shape[1], -1).T

    def _adjoint(self):
        return Adjoint(self)

    def _transpose(self):
        return Adjoint(self)

    def __matmul__(self, other):
        return Composition(self, other) if isinstance(other, LinearOperator) else super().__matmul__(other)

    def _over_batch(self, function, array, shape_in, shape_out, name):
        """function on (batch, \\*shape_in), with whatever leading axes the caller's array has."""
        if is_tensor(array):
            return self._over_tensors(function, array, shape_in, shape_out, name)
        array = np.asarray(array)
        if array.dtype.kind not in "fiub":
            raise TypeError(f"{name} has dtype {array.dtype}; give a real numeric array")
        leading = _leading(array.shape, shape_in, name)
        dtype = np.float32 if array.dtype == np.float32 else np.float64
        batch = np.ascontiguousarray(array, dtype=dtype).reshape(-1, *shape_in)
        return np.ascontiguousarray(function(batch)).reshape(*leading, *shape_out)

    def _over_tensors(self, function, tensor, shape_in, shape_out, name):
        import torch

        if not self.takes_tensors:
            kind = type(self).__name__
            raise TypeError(f"{name} is a torch tensor; {kind} takes NumPy arrays alone: give {name}.numpy(force=True)")
        if tensor.is_complex():
            raise TypeError(f"{name} has dtype {tensor.dtype}; give a real numeric tensor")
        leading = _leading(tuple(tensor.shape), shape_in, name)
        dtype = torch.float32 if tensor.dtype == torch.float32 else torch.float64
        return function(tensor.to(dtype).reshape(-1, *shape_in).contiguous()).reshape(*leading, *shape_out)


class Adjoint(LinearOperator):
    """A^T as an operator of its own, made by ``A.T`` or ``A.H``."""

    def __init__(self, operator):
        super().__init__(operator.range_shape, operator.domain_shape, operator.dtype)
        self.operator, self.takes_tensors = operator, operator.takes_tensors

    def _forward(self, x):
        return self.operator._backward(x)

    def _backward(self, y):
        return self.operator._forward(y)


class Composition(LinearOperator):
    """A B, made by ``A @ B``.

    Raises
    ------
    ValueError
        What B gives is not of the shape A takes.
    """

    def __init__(self, left, right):
        if left.domain_shape != right.range_shape:
            raise ValueError(
                f"cannot compose: the right operator gives arrays of shape {right.range_shape}, "
                f"the left one takes {left.domain_shape}"
            )
        super().__init__(right.domain_shape, left.range_shape, np.result_type(left.dtype, right.dtype))
        self.left, self.right, self.takes_tensors = left, right, left.takes_tensors and right.takes_tensors

    def _forward(self, x):
        return self.left._forward(self.right._forward(x))

    def _backward(self, y):
        return self.right._backward(self.left._backward(y))


def _leading(shape, shape_in, name):
    n = len(shape_in)
    if len(shape) < n or shape[len(shape) - n :] != shape_in:
        raise ValueError(f"{name} has shape {shape}; its trailing axes must be {shape_in}")
    return shape[: len(shape) - n]
