"""A page of pictures that shows what a deconvolution did."""

import warnings
from dataclasses import dataclass

import numpy as np

from deconjugate.astro.scratch import forget

SHOWN = 1024  # pixels of the input along an axis of a picture; of more, means are shown
BAND = 64  # rows of a picture at a time


def qa_page(path, image, result, psf, *, upsample, background=0.0, per_area=False, title="", overwrite=False):
    """Draw input, output, residual and support, a close-up, the PSFs, the residual's histogram and power on one page.

    Parameters
    ----------
    path : str or path
        Its ending chooses the format: png, pdf or svg.
    image : CCDData or (h, w) array
        The native image.
    result : DeconvolutionResult
    psf : (n, m) array
        The PSF of the input on the fine grid.
    upsample : int
    background : float or (h, w) array
        Sky level of the native image, taken off both pictures.
    per_area : bool
        Whether the pixels of the result are a surface brightness rather than counts.
    title : str

    Raises
    ------
    ValueError
        An ending that matplotlib does not write.
    FileExistsError, OSError
        See :func:`deconjugate.astro.atomic.check_output`.
    """
    from deconjugate.astro.atomic import write_atomically

    check_qa_format(path)
    data = np.asarray(image.data if hasattr(image, "wcs") else image)
    pixels = _Pixels(data, background, getattr(image, "mask", None), result, upsample, 1 if per_area else upsample**2)
    figure = _draw(pixels, result, psf, upsample, title)
    ending = str(path).rsplit(".", 1)[-1].lower()
    write_atomically(path, lambda temporary: figure.savefig(temporary, format=ending, dpi=110), overwrite=overwrite)


@dataclass(frozen=True, eq=False)
class _Pixels:
    """What is shown of an image, some rows at a time: bad pixels NaN, for what lies under them is a guess."""

    data: np.ndarray
    background: object  # float or array
    mask: object
    result: object
    upsample: int
    counts: float  # of the input's pixels that a value of the result stands for

    @property
    def step(self):
        """Pixels of the input, along each axis, that a pixel of a picture of the whole stands for."""
        return -(-max(self.data.shape) // SHOWN)

    def good(self, array, rows, columns):
        values = np.asarray(array[rows, columns], dtype=np.float64)
        return values if self.mask is None else np.where(self.mask[rows, columns], np.nan, values)

    def native(self, rows, columns):
        return self.good(self.data, rows, columns) - self._sky(rows, columns)

    def fine(self, rows, columns):
        u = self.upsample
        part = tuple(slice(s.start * u, s.stop * u) for s in (rows, columns))
        known = np.isfinite(self.good(self.data, rows, columns))
        sky = np.where(known, self._sky(rows, columns), np.nan)
        return self.counts * np.asarray(self.result.image.data[part], np.float64) - _finer(sky, u)

    def residual(self, rows, columns):
        return self.good(self.result.residual, rows, columns)

    def whole(self, picture):
        """A picture of the whole, each pixel the mean of ``step`` x ``step``, read in bands of rows."""
        height, width = self.data.shape
        if self.step == 1:
            return picture(slice(0, height), slice(0, width))
        bands = []
        for start in range(0, height // self.step * self.step, BAND * self.step):
            rows = slice(start, min(start + BAND * self.step, height // self.step * self.step))
            part = picture(rows, slice(0, width // self.step * self.step))
            part = part.reshape(-1, self.step, part.shape[1] // self.step, self.step)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of blocks without a good pixel
                bands.append(np.nanmean(part, axis=(1, 3)))
            self.forget()
        return np.concatenate(bands)

    def forget(self):
        forget(self.data, self.background, self.result.image.data, self.result.residual)

    def _sky(self, rows, columns):
        return self.background if np.ndim(self.background) == 0 else self.background[rows, columns]


def _finer(native, upsample):
    return np.repeat(np.repeat(native, upsample, 0), upsample, 1)


def check_qa_format(path):
    """Raise ValueError unless the ending of the path is one that is drawn."""
    if not str(path).lower().endswith((".png", ".pdf", ".svg")):
        raise ValueError(f"the page {path} must end in .png, .pdf or .svg")


def stretch(image, rms, top):
    """Pixels to [0, 1] by an arcsinh that shows sky noise and bright cores alike; NaN stays.

    rms sets where the scale turns from linear to logarithmic, top the value shown as 1.
    """
    low = -2.0 * rms
    return np.clip(np.arcsinh((image - low) / (3.0 * rms)) / np.arcsinh((top - low) / (3.0 * rms)), 0.0, 1.0)


def busiest_window(image, size):
    """(row, column) slices of the window of that size that holds most structure, edges left out."""
    import scipy.ndimage

    height, width = image.shape
    size_y, size_x = min(size, height), min(size, width)
    filled = np.nan_to_num(image)
    # The root of the light rather than the light: one saturated star should not take the picture.
    light = scipy.ndimage.gaussian_filter(np.sqrt(np.fmax(filled, 0.0)), 0.2 * size)
    row, column = np.unravel_index(np.argmax(light), light.shape)
    top = int(np.clip(row - size_y // 2, 0, height - size_y))
    left = int(np.clip(column - size_x // 2, 0, width - size_x))
    return slice(top, top + size_y), slice(left, left + size_x)


def _draw(pixels, result, psf, upsample, title):
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    step, shape = pixels.step, pixels.data.shape
    native, fine = pixels.whole(pixels.native), pixels.whole(pixels.fine)
    # Of a large frame as many pixels are shown as of one that is just not large.
    size = max(48, min(shape) // 4) if step == 1 else SHOWN // 4
    window = [slice(s.start * step, s.stop * step) for s in busiest_window(native, -(-size // step))]
    rows, columns = window
    close, close_fine = pixels.native(*window), pixels.fine(*window)
    rms = 1.4826 * np.nanmedian(np.abs(native - np.nanmedian(native))) or np.nanstd(native) or 1.0
    figure = Figure(figsize=(20.0, 8.4), layout="constrained")
    axes = figure.subplots(2, 5)
    top = max(np.nanpercentile(close, 99.7), 20.0 * rms)
    pictures = [
        (axes[0, 0], native, "input"),
        (axes[0, 1], fine, f"deconvolved, {upsample} x finer"),
        (axes[1, 0], close, "input, close-up"),
        (axes[1, 1], close_fine, "deconvolved, close-up"),
    ]
    for axis, picture, name in pictures:
        axis.imshow(stretch(picture, rms, top), origin="lower", cmap="inferno", vmin=0, vmax=1, interpolation="nearest")
        axis.set_title(name)
    corner = (columns.start / step - 0.5, rows.start / step - 0.5)
    sides = ((columns.stop - columns.start) / step, (rows.stop - rows.start) / step)
    axes[0, 0].add_patch(Rectangle(corner, *sides, fill=False, color="white", linewidth=0.8))
    # Means of residuals would look quieter than they are: one pixel stands for its neighbours.
    every = np.s_[::step, ::step]
    residual = pixels.good(result.residual, *every)
    shown = axes[0, 2].imshow(residual, origin="lower", cmap="RdBu_r", vmin=-5, vmax=5, interpolation="nearest")
    axes[0, 2].set_title("residual / sigma, input pixels")
    figure.colorbar(shown, ax=axes[0, 2], shrink=0.8)
    scales = result.support[(slice(None, -1), *every)].sum(0)
    shown = axes[0, 4].imshow(scales, origin="lower", cmap="viridis", vmin=0, vmax=len(result.support) - 1)
    axes[0, 4].set_title("support: scales that stand out")
    figure.colorbar(shown, ax=axes[0, 4], shrink=0.8)
    for axis in (*axes[0, :3], axes[0, 4], *axes[1, :2]):
        axis.set_facecolor("0.5")  # bad pixels
        axis.set_xticks([])
        axis.set_yticks([])
    _histogram(axes[1, 2], residual)
    middle = [slice(max(0, (n - SHOWN) // 2), max(0, (n - SHOWN) // 2) + min(n, SHOWN)) for n in shape]
    _power(axes[1, 4], pixels.residual(*middle))
    _profiles(axes[0, 3], {"PSF of the input": psf, "PSF of the output": result.psf}, upsample)
    axes[1, 3].axis("off")
    axes[1, 3].text(0.0, 1.0, "\n".join(_numbers(result)), va="top", family="monospace", transform=axes[1, 3].transAxes)
    figure.suptitle(title)
    return figure


def _histogram(axis, residual):
    good = residual[np.isfinite(residual)]
    bins = np.linspace(-6.0, 6.0, 61)
    axis.hist(np.clip(good, -5.99, 5.99), bins, density=True, color="0.6", label="residual")
    axis.plot(bins, np.exp(-0.5 * bins**2) / np.sqrt(2.0 * np.pi), color="tab:red", label="unit normal")
    axis.set_yscale("log")
    axis.set_ylim(1e-5, 1.0)
    axis.set_xlabel("residual / sigma (beyond 6 at 6)")
    axis.legend()


def radial_power(residual):
    """Power of a residual by spatial frequency: (cycles per pixel, mean power), 1 for white noise of scatter 1.

    NaN counts as zero, and the power is that of the pixels that remain.

    Example
    -------
    >>> import numpy as np
    >>> frequency, power = radial_power(np.random.default_rng(1).standard_normal((64, 80)))
    >>> bool(abs(power[4:].mean() - 1) < 0.1), round(float(frequency[-1]), 2)
    (True, 0.48)
    """
    power = np.abs(np.fft.fft2(np.nan_to_num(residual))) ** 2 / max(1, np.count_nonzero(np.isfinite(residual)))
    radius = np.hypot(np.fft.fftfreq(residual.shape[0])[:, None], np.fft.fftfreq(residual.shape[1]))
    edges = np.linspace(0.0, 0.5, max(4, min(32, min(residual.shape) // 4)) + 1)
    ring = np.digitize(radius.ravel(), edges) - 1
    inside = (ring < len(edges) - 1) & (radius.ravel() > 0.0)
    count = np.bincount(ring[inside], minlength=len(edges) - 1)
    total = np.bincount(ring[inside], power.ravel()[inside], minlength=len(edges) - 1)
    filled = count > 0
    return (0.5 * (edges[1:] + edges[:-1]))[filled], total[filled] / count[filled]


def _power(axis, residual):
    frequency, power = radial_power(residual)
    axis.plot(frequency, power, "o-", markersize=3, label="residual")
    axis.axhline(1.0, color="tab:red", label="white noise")
    axis.set_yscale("log")
    axis.set_xlabel("spatial frequency, cycles per input pixel")
    axis.set_title("power of the residual")
    axis.legend()


def _profiles(axis, psfs, upsample):
    for name, p in psfs.items():
        y, x = (np.arange(n) - n // 2 for n in p.shape)
        radius = np.hypot(y[:, None], x).ravel() / upsample
        axis.plot(radius, np.fmax(p.ravel() / p.max(), 1e-9), ".", markersize=3, label=name)
    axis.set_yscale("log")
    axis.set_ylim(1e-5, 1.5)
    axis.set_xlim(0.0, 12.0)
    axis.set_xlabel("radius, input pixels")
    axis.legend()


def _numbers(result):
    lines = [f"reduced chi2   {result.reduced_chi2:10.4f}", f"flux ratio     {result.flux_ratio:10.6f}"]
    return lines + [f"{name:<14} {seconds:10.2f} s" for name, seconds in result.timings.items()]
