"""Linear maps on n-D arrays: numba kernels on the CPU."""

from deconjugate.operators.base import LinearOperator
from deconjugate.operators.checks import dot_test, operator_norm
from deconjugate.operators.convolution import Binning, Convolution, psf_to_otf

__all__ = ["Binning", "Convolution", "LinearOperator", "dot_test", "operator_norm", "psf_to_otf"]
