"""Linear maps on n-D arrays: numba kernels on the CPU."""

from deconjugate.operators.base import LinearOperator
from deconjugate.operators.checks import dot_test, operator_norm
from deconjugate.operators.convolution import Binning, Convolution, psf_to_otf
from deconjugate.operators.starlet import Starlet

__all__ = ["Binning", "Convolution", "LinearOperator", "Starlet", "dot_test", "operator_norm", "psf_to_otf"]
