"""Linear maps on n-D arrays: numba kernels on the CPU."""

from deconjugate.operators.base import LinearOperator
from deconjugate.operators.checks import dot_test, operator_norm

__all__ = ["LinearOperator", "dot_test", "operator_norm"]
