"""What may be asked of the deconvolution of a file."""

import os
from dataclasses import dataclass, field, replace

NOT_OF_THE_RESULT = ("overwrite", "qa")  # options that change no pixel
NOT_OF_THE_METHOD = ("progress", "device")


@dataclass(frozen=True)
class FileOptions:
    """The options of :func:`deconjugate.astro.deconvolve_file`.

    Parameters
    ----------
    psf : PSF, str or path
        The PSF or its file, see :meth:`deconjugate.astro.PSF.from_file`; or give one of the widths.
    psf_oversampling, psf_ext
        Of its file: samples per pixel, and which of several PSFs; for ``all_ext`` see :meth:`for_images`.
    fwhm_arcsec, fwhm_pix : float, > 0
        Width of a Moffat PSF, as the stars of the image show it: the geometric mean of its axes.
    beta, ellipticity, pa : float
        Of the Moffat: exponent, 1 - minor / major axis, degrees from the first image axis counter-clockwise.
    ext, noise, noise_kind, mask, bad_bits
        See :func:`deconjugate.astro.read_image`. Without noise it is measured from the sky. A noise that is a "weight"
        is relative: it is scaled so that its median is that of the measured one.
    all_ext : bool
        Every image of the file, not just one: those named SCI, else all that are not noise, mask or the like.
    gain : float, > 0, "header" or None
        Electrons per count, for the shot noise of the sources in a measured noise; "header": what it says, see
        :func:`deconjugate.astro.detector.header_gain`.
    psf_error : float, >= 0
        Relative error of the PSF, added to the noise in proportion to the signal: see
        :func:`deconjugate.astro.background.noise_map`.
    saturation : float, optional
        Pixels of this value or more are bad; default what the header says (SATURATE). Pixels more than 10 sigma below
        the sky are bad in any case.
    sky : "map", "flat" or "none"
        How the sky is measured: see :func:`deconjugate.astro.background.background_and_rms`.
    upsample : int, >= 1
    k_sigma : float, > 0
    keep_hdus : bool
        Whether the other HDUs of the input follow those of the result.
    support : bool
        Whether the support of the data is written.
    qa : str or path, optional
        Where to draw :func:`deconjugate.astro.qa.qa_page`.
    overwrite : bool
    method : dict
        Further arguments of :func:`deconjugate.astro.deconvolve`.
    """

    psf: object = None
    psf_oversampling: float | None = None
    psf_ext: object = None
    fwhm_arcsec: float | None = None
    fwhm_pix: float | None = None
    beta: float = 3.0
    ellipticity: float = 0.0
    pa: float = 0.0
    ext: object = None
    all_ext: bool = False
    noise: object = None
    noise_kind: str | None = None
    gain: object = None
    psf_error: float = 0.0
    mask: object = None
    bad_bits: int | None = None
    saturation: float | None = None
    sky: str = "map"
    upsample: int = 2
    k_sigma: float = 3.0
    keep_hdus: bool = False
    support: bool = False
    qa: object = None
    overwrite: bool = False
    method: dict = field(default_factory=dict)

    def __post_init__(self):
        given = [value for value in (self.psf, self.fwhm_arcsec, self.fwhm_pix) if value is not None]
        if len(given) != 1:
            raise ValueError(f"{len(given)} of psf, fwhm_arcsec and fwhm_pix are given; give one")
        if self.ext is not None and self.all_ext:
            raise ValueError(f"ext is {self.ext!r} and all_ext is set; give one of them")

    def for_images(self, names):
        """The options of each image of a file, given the names of its extensions: with ``all_ext`` the PSF's chips.

        Where the PSF file holds a PSFEx model a chip, and ``psf_ext`` does not choose one, the n-th chip is for the
        n-th image; those that have the images' names are for these.

        Raises
        ------
        ValueError
            There are more or fewer chips than images.
        """
        if not self.all_ext or self.psf_ext is not None or not isinstance(self.psf, str | os.PathLike):
            return [self] * len(names)
        from deconjugate.astro.psfex import psfex_chips

        chips = psfex_chips(self.psf)
        if not chips:
            return [self] * len(names)
        if len(chips) != len(names):
            raise ValueError(
                f"{self.psf} holds PSFEx models of {len(chips)} chips, and there are {len(names)} images "
                f"({', '.join(names)}): choose one for all (--psf-ext), or do the images apart (--ext)"
            )
        order = {name.casefold(): ext for ext, name in chips}
        if {name.casefold() for name in names} == set(order):
            return [replace(self, psf_ext=order[name.casefold()]) for name in names]
        return [replace(self, psf_ext=ext) for ext, _ in chips]

    def of_the_result(self):
        """The options that decide on the pixels, as a dictionary of plain values."""
        options = {name: value for name, value in vars(self).items() if name not in (*NOT_OF_THE_RESULT, "method")}
        return options | {name: value for name, value in self.method.items() if name not in NOT_OF_THE_METHOD}
