"""Linear maps on n-D arrays: numba kernels on the CPU; convolution, binning and starlet on torch tensors too."""

from deconjugate.operators.base import LinearOperator
from deconjugate.operators.checks import dot_test, operator_norm
from deconjugate.operators.convolution import Binning, Convolution, psf_to_otf
from deconjugate.operators.dictionaries import Dictionary, dictionary
from deconjugate.operators.poisson import Cell, PoissonOperator
from deconjugate.operators.starlet import Starlet
from deconjugate.operators.wavelet import OrthogonalWavelet, StationaryWavelet, estimate_noise

__all__ = [
    "Binning",
    "Cell",
    "Convolution",
    "Dictionary",
    "LinearOperator",
    "OrthogonalWavelet",
    "PoissonOperator",
    "Starlet",
    "StationaryWavelet",
    "dictionary",
    "dot_test",
    "estimate_noise",
    "operator_norm",
    "psf_to_otf",
]
