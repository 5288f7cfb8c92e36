"""The point spread function, given in any of its forms, on the fine grid of a deconvolution."""

import numpy as np

from deconjugate.astro.psf_profile import Profile
from deconjugate.astro.psf_samples import Samples, check_oversampling, check_psf_array
from deconjugate.astro.shape import fwhm_pix


class PSF:
    """A point spread function, from an array, a file or an analytic profile.

    The *effective* PSF e is what stars in the image show: the optical PSF o integrated over native pixels. On a fine
    grid of ``upsample`` pixels per native pixel, :meth:`fine` gives the array p whose u x u block sums are e:

    .. math:: \\sum_{a=0}^{u-1} p[m + a] = e((m + (u - 1) / 2) / u), \\quad
              \\hat p(f) = \\hat e(f) \\, \\frac{u \\sin \\pi f}{\\sin \\pi u f} = \\hat o(f) \\, \\mathrm{sinc}(f)

    per axis, f in cycles per fine pixel: a source in fine pixel j sits at native coordinate (j - (u - 1) / 2) / u. The
    pixel response is thus never applied twice.

    Make one with :meth:`from_array`, :meth:`moffat`, :meth:`gaussian`, :meth:`from_file` or :meth:`from_epsf`.

    Attributes
    ----------
    error : float or None
        Estimate of the sum of |PSF - true PSF|, both of sum 1, by whoever made it; None where nobody said.

    Example
    -------
    >>> p = PSF.moffat(3.5, beta=3.0).fine(2)
    >>> p.shape[0] % 2, round(float(p.sum()), 12)
    (1, 1.0)
    """

    def __init__(self, model, *, error=None):
        self._model, self.error = model, check_error(error)

    def __repr__(self):
        return f"PSF({self._model.describe()})"

    @classmethod
    def from_array(cls, array, *, oversampling=1, includes_pixel=True, error=None):
        """A PSF from its samples.

        Parameters
        ----------
        array : (h, w) array
            Samples, odd or even in size, of any centring and normalisation; negative wings are kept.
        oversampling : float or pair (rows, columns), > 0
            Samples per native pixel; 2 means that two samples span one pixel of the image.
        includes_pixel : bool
            True: the effective PSF, native pixel response included, as stars, PSFEx and ePSF models show it,
            whatever the oversampling. False: the optical PSF alone.
        error : float, >= 0, optional
            How wrong it may be: see :attr:`error`.

        Raises
        ------
        ValueError
            The array is not 2-D, holds NaN or infinity, is all zero or not positive in sum; oversampling is not
            positive.

        Example
        -------
        >>> import numpy as np
        >>> x = np.arange(16) - 7.5
        >>> PSF.from_array(np.exp(-0.5 * (x[:, None] ** 2 + x**2) / 1.7**2)).fine(2).shape
        (33, 33)
        """
        array = check_psf_array(array)
        return cls(Samples(array[None], check_oversampling(oversampling), bool(includes_pixel)), error=error)

    @classmethod
    def moffat(cls, fwhm_pix, *, beta=3.0, ellipticity=0.0, pa=0.0, includes_pixel=True, error=None):
        """A Moffat profile, I(r) ~ (1 + r^2 / alpha^2)^-beta.

        Parameters
        ----------
        fwhm_pix : float
            Full width at half maximum in native pixels, the geometric mean of both axes. It is that of the effective
            PSF, as measured on the stars of the image: the optical Moffat is solved for, so that once integrated
            over pixels it has this width. With ``includes_pixel=False`` it is the optical width itself.
        beta : float, > 1
            Larger values mean fainter wings; 2.5 to 4.8 describes seeing.
        ellipticity : float, in [0, 1)
            1 - minor / major axis.
        pa : float
            Angle of the major axis, degrees counter-clockwise from the first image axis (x, columns).
        error : float, >= 0, optional
            How wrong it may be: see :attr:`error`.

        Raises
        ------
        ValueError
            A parameter outside its interval.
        """
        if not (np.isfinite(beta) and beta > 1.0):
            raise ValueError(f"beta is {beta}; a Moffat profile has finite flux for beta > 1 only, 3 is usual")
        return cls(Profile.of_width(float(beta), fwhm_pix, ellipticity, pa, includes_pixel), error=error)

    @classmethod
    def gaussian(cls, fwhm_pix, *, ellipticity=0.0, pa=0.0, includes_pixel=True, error=None):
        """A Gaussian profile; parameters as for :meth:`moffat`."""
        return cls(Profile.of_width(np.inf, fwhm_pix, ellipticity, pa, includes_pixel), error=error)

    @classmethod
    def from_file(cls, path, *, oversampling=None, pixel_scale=None, ext=None, error=None):
        """A PSF from a FITS file: an image (effective PSF, any centring) or a PSFEx model (.psf).

        A PSFEx model is a polynomial over the frame: see ``position`` in :meth:`fine`.

        Parameters
        ----------
        path : str or path
        oversampling : float, > 0, optional
            Samples of a PSF image per pixel of the image that it is for. Default: the card OVERSAMP; else the ratio of
            both pixel scales, where the PSF has one (PIXSCALE, or its WCS) and ``pixel_scale`` is given; else 1.
        pixel_scale : float, > 0, optional
            Arcseconds per pixel of the image that the PSF is for.
        ext : int or str, optional
            Extension by number or name, for files of several PSFs: the chips of a camera, say.
        error : float, >= 0, optional
            How wrong it may be, see :attr:`error`; default what the file says (PSFERROR), else None. PSFEx's own
            files do not say: their CHI2 holds an error of the model that PSFEx was told to allow for.

        Raises
        ------
        OSError
            The file is missing or is not FITS.
        KeyError
            It has no such extension.
        ValueError
            It holds neither an image nor a PSFEx model, or the image is no PSF; it holds several chips and ext does
            not say which.
        """
        from deconjugate.astro.psfex import read_psf

        model, said = read_psf(path, oversampling=oversampling, pixel_scale=pixel_scale, ext=ext)
        return cls(model, error=said if error is None else error)

    @classmethod
    def from_epsf(cls, model, *, error=None):
        """A PSF from a photutils ``ImagePSF``, ``EPSFModel`` or ``GriddedPSFModel``.

        Or from any object with ``data`` and ``oversampling``; one with ``grid_xypos`` too varies over the image.
        """
        try:
            data, oversampling = model.data, np.asarray(model.oversampling, dtype=float)
        except AttributeError as cause:
            raise TypeError(f"{type(model).__name__} is no ePSF model: it has no .data and .oversampling") from cause
        if hasattr(model, "grid_xypos"):
            from deconjugate.astro.psf_grid import sample_grid

            return cls(sample_grid(data, model.grid_xypos, oversampling), error=error)
        return cls.from_array(data, oversampling=oversampling, error=error)

    @property
    def varies(self):
        """Whether it differs over the image: see ``position`` in :meth:`fine`."""
        return self._model.varies

    @property
    def fwhm_pix(self):
        """FWHM of the effective PSF in native pixels: see :func:`deconjugate.astro.shape.fwhm_pix`."""
        sampling = 5
        p = self.fine(sampling)
        kernel = np.ones(sampling)
        rows = np.apply_along_axis(np.convolve, 0, p, kernel)
        return float(fwhm_pix(np.apply_along_axis(np.convolve, 1, rows, kernel))) / sampling

    def patch(self, shape, *, tolerance=0.02):
        """Over how many native pixels it may be taken for one: see :func:`deconjugate.astro.psf_patch.patch`."""
        from deconjugate.astro.psf_patch import patch

        return patch(self, shape, tolerance=tolerance)

    def fine(self, upsample, *, center="centroid", position=None, max_size=None):
        """The PSF on the fine grid, native pixel response taken out.

        Parameters
        ----------
        upsample : int, >= 1
            Fine pixels per native pixel.
        center : "centroid" or "keep"
            "centroid" puts the Gaussian-windowed centroid on the middle pixel; "keep" puts the middle of the given
            array there ((n - 1) / 2, between two samples for even n).
        position : pair (x, y), optional
            Where in the image, pixels from 0, for a PSF that varies over it; default the middle of its range.
        max_size : int, optional
            Largest side in fine pixels, that of the image: an analytic profile, which has no size of its own, is cut
            to it; samples that span more are cropped to it, and a warning says which share of the flux is lost.

        Returns
        -------
        (n, m) float64 array, both odd, sum 1, centred on its middle pixel.

        Raises
        ------
        ValueError
            upsample is not a positive whole number; center is unknown; position is not a pair; the FWHM of an analytic
            profile exceeds max_size.

        Warns
        -----
        UserWarning
            Samples were cropped, and more than 0.1 per cent of their flux was lost.
        """
        if isinstance(upsample, bool) or upsample != int(upsample) or upsample < 1:
            raise ValueError(f"upsample is {upsample!r}; give a whole number, 1 or more")
        if center not in ("centroid", "keep"):
            raise ValueError(f'center is {center!r}; choose "centroid" or "keep"')
        if position is not None and (np.shape(position) != (2,) or not np.all(np.isfinite(position))):
            raise ValueError(f"position is {position!r}; give two pixel coordinates (x, y)")
        return self._model.fine(int(upsample), center, position, max_size)


def check_error(error):
    """The error of a PSF as a float, or None where it is unknown."""
    if error is None:
        return None
    if not (np.isfinite(error) and error >= 0.0):
        raise ValueError(f"error is {error}; give the sum of |PSF - true PSF|, from 0, or None where it is unknown")
    return float(error)
