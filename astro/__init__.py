"""Astronomical images: deconvolution, FITS, PSFs.

The names below are loaded when first used, so that the command line answers at once.
"""

from importlib import import_module

_HOME = {
    "PSF": "psf",
    "read_image": "fits",
    "write_image": "fits",
}

__all__ = sorted(_HOME)


def __getattr__(name):
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__():
    return sorted({*globals(), *_HOME})
