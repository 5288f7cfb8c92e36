"""A page of pictures that shows which stars a PSF was measured on, and how well it fits them."""

import numpy as np

from deconjugate.astro.atomic import write_atomically
from deconjugate.astro.qa import check_qa_format, stretch


def psf_page(path, light, measured, pixel_scale=None, *, title="", overwrite=False):
    """Draw the frame with its stars, the PSF, its profile, the residual and the widths of the stars.

    Parameters
    ----------
    path : str or path
        Its ending chooses the format: png, pdf or svg.
    light : (h, w) array
        The image, background subtracted.
    measured : deconjugate.astro.star_psf.StarPSF
    pixel_scale : float, optional
        Arcseconds per pixel.
    title : str

    Raises
    ------
    ValueError, FileExistsError, OSError
        See :func:`deconjugate.astro.qa.qa_page`.
    """
    check_qa_format(path)
    figure = _draw(np.asarray(light, dtype=np.float64), measured, pixel_scale, title)
    ending = str(path).rsplit(".", 1)[-1].lower()
    write_atomically(path, lambda temporary: figure.savefig(temporary, format=ending, dpi=100), overwrite=overwrite)


def _draw(light, measured, pixel_scale, title):
    from matplotlib.figure import Figure

    figure = Figure(figsize=(14.0, 8.4), layout="constrained")
    axes = figure.subplots(2, 3)
    stars, array, q = measured.stars, measured.array, measured.oversampling
    rms = 1.4826 * np.nanmedian(np.abs(light - np.nanmedian(light))) or 1.0
    shown = stretch(light, rms, max(np.nanpercentile(light, 99.7), 20.0 * rms))
    axes[0, 0].imshow(shown, origin="lower", cmap="gray_r", vmin=0, vmax=1, interpolation="nearest")
    axes[0, 0].plot(stars["x"], stars["y"], "o", mfc="none", color="tab:red", markersize=9)
    axes[0, 0].set_title(f"{measured.count} stars")
    half = array.shape[0] // 2 / q
    box = (-half - 0.5 / q, half + 0.5 / q) * 2
    picture = axes[0, 1].imshow(
        np.log10(np.fmax(array / array.max(), 1e-6)), origin="lower", extent=box, cmap="viridis", vmin=-5, vmax=0
    )
    axes[0, 1].set_title(f"PSF, log10 of peak; {q} samples a pixel")
    figure.colorbar(picture, ax=axes[0, 1], shrink=0.8)
    side = measured.residual.shape[0] / 2
    picture = axes[0, 2].imshow(
        100.0 * measured.residual, origin="lower", extent=(-side, side) * 2, cmap="RdBu_r", vmin=-2, vmax=2
    )
    axes[0, 2].set_title("mean residual of the stars, % of the peak")
    figure.colorbar(picture, ax=axes[0, 2], shrink=0.8)
    y, x = ((np.arange(n) - n // 2) / q for n in array.shape)
    axes[1, 0].semilogy(np.hypot(y[:, None], x).ravel(), np.fmax(array.ravel() / array.max(), 1e-9), ".", markersize=2)
    axes[1, 0].axvline(0.5 * measured.fwhm_pix, color="0.6", linewidth=0.8)
    axes[1, 0].set(ylim=(1e-5, 1.5), xlabel="radius, pixels", title="PSF")
    axes[1, 1].semilogx(stars["snr"], stars["fwhm_pix"], ".")
    axes[1, 1].axhline(measured.fwhm_pix, color="0.6", linewidth=0.8)
    axes[1, 1].set(xlabel="signal to noise of the peak", title="FWHM of the stars, pixels")
    axes[1, 2].axis("off")
    words = [part.strip() for part in measured.summary(pixel_scale).replace(";", ",").split(",")]
    words += ["", *(f"left out: {count} {reason}" for reason, count in measured.rejected.items() if count)]
    axes[1, 2].text(0.0, 1.0, "\n".join(words), va="top", transform=axes[1, 2].transAxes)
    figure.suptitle(title)
    return figure
