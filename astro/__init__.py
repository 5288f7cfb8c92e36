"""Astronomical images: deconvolution, FITS, PSFs."""
