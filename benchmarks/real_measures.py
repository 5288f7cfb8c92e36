"""What spoils an image, in numbers: holes, residual patterns, fluxes that are not kept."""

import numpy as np
import scipy.ndimage
import scipy.signal

from deconjugate.astro.photometry import find_sources, photometry

SMOOTHING = 1.5  # native pixels, deviation of the Gaussian that sources and the local mean are seen through
INSIDE = 5.0  # sigmas of the smoothed data
HOLE = 0.1  # of the local mean
SNR_BINS = ((5, 10), (10, 20), (20, 50))


def inside_sources(data, sigma, upsample):
    """Fine pixels where the smoothed native data stand out by more than 5 sigma of theirs."""
    noise = sigma / (2.0 * np.sqrt(np.pi) * SMOOTHING)
    bright = scipy.ndimage.gaussian_filter(np.nan_to_num(data), SMOOTHING) > INSIDE * noise
    return np.kron(bright, np.ones((upsample, upsample), bool))


def holes(image, inside, upsample):
    """Share of the fine pixels inside sources below a tenth of the local mean."""
    mean = scipy.ndimage.gaussian_filter(np.maximum(image, 0.0), SMOOTHING * upsample)
    return float(np.mean(image[inside] < HOLE * mean[inside])) if inside.any() else np.nan


def matched(residual, psf):
    """Residual in sigmas, filtered by the native PSF to the significance of a point source."""
    return scipy.signal.fftconvolve(residual, psf[::-1, ::-1] / np.sqrt(np.sum(psf**2)), mode="same")


def patterns(residual, psf, places, fwhm):
    """The largest filtered residual, in sigmas and with its sign, within 2 FWHM of each place (x, y)."""
    filtered = matched(residual, psf)
    found, reach = [], int(np.ceil(2.0 * fwhm))
    for x, y in np.round(np.asarray(places)).astype(int).reshape(-1, 2):
        part = filtered[max(y - reach, 0) : y + reach + 1, max(x - reach, 0) : x + reach + 1]
        if part.size:
            found.append(part.flat[np.abs(part).argmax()])
    return np.array(found)


def flux_ratios(data, image, sigma, avoid, upsample):
    """Flux after over flux before of the sources of the data, and their flux SNR; those that touch ``avoid`` left out.

    The apertures are those of ``deconjugate photometry``; after it has lost the seeing, a source has more of its flux
    in one of them, at most as much as the aperture of the data loses.
    """
    positions, ellipses = find_sources(data, sigma, avoid, threshold=5.0)
    if not len(positions):
        return np.empty(0), np.empty(0)
    table = photometry(data, image, sigma, positions, ellipses, upsample=upsample)
    rows, columns = np.indices(data.shape)
    kept = []
    for (x, y), (a, *_) in zip(positions, ellipses):
        near = np.hypot(rows - y, columns - x) <= a + 1.0
        kept.append(min(x, y) > a and x < data.shape[1] - 1 - a and y < data.shape[0] - 1 - a and not avoid[near].any())
    kept = np.array(kept)
    return np.asarray(table["ratio"])[kept], np.asarray(table["flux_before"] / table["flux_error"])[kept]


def by_snr(ratios, snr):
    """``{"5-10": (median ratio, number)}`` and so on."""
    found = {}
    for low, high in SNR_BINS:
        some = ratios[(snr >= low) & (snr < high)]
        found[f"{low}-{high}"] = (float(np.median(some)) if some.size else None, int(some.size))
    return found


def squared_error(image, truth, box=np.s_[:, :]):
    """Squared error over the truth's square within a box."""
    return float(np.sum((image[box] - truth[box]) ** 2) / np.sum(truth[box] ** 2))
