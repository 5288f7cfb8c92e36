"""Astronomical images: deconvolution, FITS, PSFs.

The names below are loaded when first used, so that the command line answers at once.
"""

import sys
from importlib import import_module
from types import ModuleType

_HOME = {
    "DeconvolutionResult": "deconvolve",
    "PSF": "psf",
    "Scene": "simulate",
    "deconvolve": "deconvolve",
    "deconvolve_bands": "matching",
    "random_flip": "simulate",
    "read_image": "fits",
    "scatter_sources": "simulate",
    "simulate": "simulate",
    "target_psf": "simulate",
    "write_image": "fits",
}

__all__ = sorted(_HOME)


def __getattr__(name):
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__():
    return sorted({*globals(), *_HOME})


class _Package(ModuleType):
    """Keeps ``deconjugate.astro.simulate`` the function: importing the file of that name would bind the module."""

    def __setattr__(self, name, value):
        if name not in _HOME or not isinstance(value, ModuleType):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
