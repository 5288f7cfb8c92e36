"""The PSF of an image, measured on its stars."""

from dataclasses import dataclass, field

import numpy as np

from deconjugate.astro.psf import PSF
from deconjugate.astro.psf_samples import Samples
from deconjugate.astro.shape import fwhm_pix
from deconjugate.astro.star_build import ANALYTIC, PSF_ERROR, build, cut_stars
from deconjugate.astro.star_error import error_of, misfit_floors, misfits
from deconjugate.astro.star_finding import find_stars
from deconjugate.astro.star_fit import spline_samples
from deconjugate.astro.star_profile import ellipse, relative_widths, width_gradient
from deconjugate.astro.star_surface import ORDERS

SAMPLES = 5.0  # per FWHM, at least: what a spline needs


@dataclass(frozen=True, eq=False)
class StarPSF:
    """A PSF measured on stars, and how good it is.

    Attributes
    ----------
    array : (odd, odd) array
        The effective PSF in the middle of the frame, sum 1, ``oversampling`` samples per pixel, centred on its middle
        sample.
    oversampling : int
    psf : deconjugate.astro.PSF
        The same as :func:`deconjugate.astro.deconvolve` takes it, over the whole frame where ``order`` is not 0.
    order : int
        Of the polynomials in the position that the PSF follows; 0 where it is one for the frame.
    fwhm_pix, ellipticity, pa : float
        Of the effective PSF, native pixels; 1 - minor / major axis and the angle of the major axis, degrees
        counter-clockwise from the x axis, from its Gaussian-weighted second moments.
    beta : float
        Exponent of the Moffat that it was built on; with fewer than three stars it is this Moffat.
    error : float
        Estimate of ||PSF - truth||_1, the truth being that at any place of the frame: see
        :func:`deconjugate.astro.star_error.error_of`.
    gradient, gradient_error : float
        Largest relative change of the FWHM across the frame, from a plane through the stars' widths.
    stars : dict of (n,) arrays
        x, y (pixels from 0), flux, snr (of the peak), fwhm_pix, misfit (rms of the residual within one FWHM over the
        peak, noise taken out), floor (what noise alone may make of it, one sigma).
    residual : (s, s) array
        Mean over the stars of the residual, native pixels, relative to the peak of the star.
    polynomial : deconjugate.astro.psf_samples.Samples or None
        Where ``order`` is not 0: samples that are polynomials in the position, as files of PSFEx have them.
    rejected : dict
        How many bright peaks were left out, by reason.
    """

    array: np.ndarray
    oversampling: int
    psf: PSF
    order: int
    fwhm_pix: float
    ellipticity: float
    pa: float
    beta: float
    error: float
    gradient: float
    gradient_error: float
    stars: dict
    residual: np.ndarray
    polynomial: Samples | None = None
    rejected: dict = field(default_factory=dict)

    @property
    def count(self):
        """Stars that it rests on."""
        return len(self.stars["x"])

    @property
    def analytic(self):
        """Whether it is a Moffat alone, as one or two stars give it."""
        return self.count < ANALYTIC

    def summary(self, pixel_scale=None):
        """What was measured, in a line."""
        arcsec = "" if pixel_scale is None else f" ({self.fwhm_pix * pixel_scale:.3f} arcsec)"
        varies = f"{self.gradient:.1%}, +- {self.gradient_error:.1%}" if np.isfinite(self.gradient_error) else "unknown"
        followed = f", followed with order {self.order}" if self.order else ""
        residual = np.median(self.stars["misfit"])
        return (
            f"{self.count} star{'s' * (self.count != 1)}, FWHM {self.fwhm_pix:.3f} pixels{arcsec}, "
            f"ellipticity {self.ellipticity:.3f} at {self.pa:.0f} degrees, Moffat beta {self.beta:.1f}"
            f"{' alone' * self.analytic}; residuals {residual:.1%} of the peak; error {self.error:.1%} of the flux; "
            f"change of the width over the frame {varies}{followed}"
        )


def measure_psf(
    data,
    background=0.0,
    rms=None,
    mask=None,
    *,
    saturation=None,
    gain=None,
    oversampling=None,
    min_snr=30.0,
    max_stars=100,
    order="auto",
):
    """The effective PSF of an image from its stars.

    .. math:: y_{ip} = f_i \\, e(x_p - x_i) + l_i + n_{ip}, \\qquad e = b \\, (1 + \\text{a smooth correction})

    e is a cubic spline on a grid of ``oversampling`` samples per pixel; b is the elliptical Moffat that fits all
    stars best. PSF and stars (flux, place, local level) are fitted in turns; pixels that the model does not explain, as
    faint neighbours and cosmic rays, are left out, and so are stars of which much is not explained, as galaxies and
    close pairs. How far e may depart from b is decided by stars that are left out of the fit.

    With ``order`` the parameters of b and the correction are polynomials in the position. Fewer than three stars give
    b alone.

    Parameters
    ----------
    data : (h, w) array
        NaN and infinite pixels are bad.
    background : float or (h, w) array
    rms : float or (h, w) array, optional
        Noise of the sky; default measured.
    mask : (h, w) bool array, optional
        True = bad.
    saturation : float, optional
        Stars with a pixel of this value or more are left out. Default: where three pixels or more share the highest
        value, as saturated ones do, 0.9 of its height.
    gain : float, > 0, optional
        Electrons per count: adds the stars' shot noise.
    oversampling : int, >= 1, optional
        Samples per pixel; default as many as make 5 a FWHM. More needs more stars, at different places within a pixel.
    min_snr : float, > 0
        Peak of a star over noise.
    max_stars : int, >= 1
        The brightest so many are used.
    order : 0, 1, 2 or "auto"
        Of the polynomials that the PSF follows over the frame; fewer than 12 stars show no order 1, fewer than 24 no
        order 2, and the highest that they show is taken then. "auto": the lowest that explains stars which are left out
        of the fit no worse than a higher one, by three standard errors.

    Returns
    -------
    StarPSF

    Raises
    ------
    ValueError
        No star fits; an argument is out of its interval.

    Source
    ------
    Anderson, King, PASP 112, 1360 (2000), for effective PSFs.

    Example
    -------
    >>> import numpy as np
    >>> from deconjugate.astro import PSF, simulate
    >>> sky = np.zeros((500, 500))
    >>> sky[41:480:73, 43:480:73] = 1.0
    >>> scene = simulate(sky, PSF.moffat(3.4, beta=3.0), peak_snr=200, seed=1)
    >>> measured = measure_psf(scene.data, rms=scene.noise_map)
    >>> measured.count, round(measured.fwhm_pix, 1)
    (42, 3.4)
    """
    data = np.asarray(data, dtype=np.float64)
    if data.ndim != 2:
        raise ValueError(f"data has shape {data.shape}; give a 2-D image")
    if oversampling is not None and (isinstance(oversampling, bool) or oversampling not in range(1, 11)):
        raise ValueError(f"oversampling is {oversampling!r}; give a whole number from 1 to 10")
    if not (np.isfinite(min_snr) and min_snr > 0.0):
        raise ValueError(f"min_snr is {min_snr}; give a positive number")
    if max_stars != int(max_stars) or max_stars < 1:
        raise ValueError(f"max_stars is {max_stars}; give a whole number, 1 or more")
    if isinstance(order, bool) or order not in (*ORDERS, "auto"):
        raise ValueError(f'order is {order!r}; choose 0, 1, 2 or "auto"')
    if gain is not None and not (np.isfinite(gain) and gain > 0.0):
        raise ValueError(f"gain is {gain}; give the electrons per unit of the data, a positive number")
    bad = ~np.isfinite(data) if mask is None else ~np.isfinite(data) | np.asarray(mask, dtype=bool)
    if bad.all():
        raise ValueError("no pixel of the image is good: all are masked or NaN")
    if rms is None:
        from deconjugate.astro.background import background_and_rms

        rms = background_and_rms(data - background, bad, sky="none")[1]
    if saturation is None:
        top = np.max(data[~bad])
        shared = np.count_nonzero(data[~bad] == top) > 2
        saturation = np.median(background) + 0.9 * (top - np.median(background)) if shared else np.inf
    light = np.where(bad, 0.0, data - background)
    found = find_stars(light, rms, bad, saturation=saturation - background, min_snr=min_snr, max_stars=int(max_stars))
    q = int(np.clip(np.ceil(SAMPLES / found.fwhm_pix), 1, 5)) if oversampling is None else int(oversampling)
    stars = cut_stars(light, np.broadcast_to(rms, light.shape), bad, gain, found, q)
    built = build(stars, found.stars[:, ::-1], found.fwhm_pix, light.shape, order)
    rejected = {**found.rejected, "unlike the others": built.unlike}
    return _report(built, found.stars[built.used], rejected, light.shape)


def _report(built, places, rejected, shape):
    stars, surface = built.stars, built.surface
    q, samples = surface.oversampling, surface.samples()
    width = float(fwhm_pix(samples)) / q
    c = surface.coefficients(stars.basis)
    each = width if c.ndim == 2 else np.array([fwhm_pix(one) / q for one in spline_samples(c)])
    light = stars.flux[:, None, None] * stars.model(c)
    peak = light.max(axis=(1, 2))
    table = {
        "x": places[:, 1] + stars.places[:, 1],
        "y": places[:, 0] + stars.places[:, 0],
        "flux": stars.flux,
        "snr": peak / np.sqrt(np.median(stars.variance, axis=(1, 2))),
        "fwhm_pix": each * relative_widths(stars, c),
        "misfit": misfits(stars, c, width),
        "floor": misfit_floors(stars, c, width),
    }
    good = stars.weight(c, PSF_ERROR) > 0
    relative = np.where(good, stars.residual(c), 0.0) / peak[:, None, None]
    mean = relative.sum(axis=0) / np.maximum(np.count_nonzero(good, axis=0), 1)
    gradient, uncertain = width_gradient(table["x"], table["y"], table["fwhm_pix"], shape)
    array, error, polynomial = surface.whole(), error_of(built), None
    if surface.order:
        coefficients, degree = surface.polynomial()
        middle, half = surface.middle, (surface.shape[1] / 2, surface.shape[0] / 2)
        polynomial = Samples(coefficients, (q, q), True, middle, half, degree)
        psf = PSF(polynomial, error=error)
    else:
        psf = PSF.from_array(array, oversampling=q, error=error)
    return StarPSF(
        array=array,
        oversampling=q,
        psf=psf,
        order=surface.order,
        fwhm_pix=width,
        **dict(zip(("ellipticity", "pa"), ellipse(samples))),
        beta=float(surface.parameters[0, 1]),
        error=error,
        gradient=gradient,
        gradient_error=uncertain,
        stars=table,
        residual=mean,
        polynomial=polynomial,
        rejected=rejected,
    )
