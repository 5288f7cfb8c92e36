"""What the network is told of the data, in units that no flux and no sky can change."""

from dataclasses import dataclass

import numpy as np
import scipy.ndimage

from deconjugate.astro.sparse import starlet_symbols
from deconjugate.astro.tikhonov import BlockSolver, laplacian, preconditioner_symbol, tikhonov

LADDER = (1 / 16, 1.0, 16.0)  # of lambda: crisp and noisy, balanced, smooth
MARGIN = 8  # fine pixels around the frame that the network sees
PLANES = 5  # starlet planes by which noise and resolution of the three are told
CHANNELS, CONDITIONS = len(LADDER) + 1, 2 * len(LADDER) * PLANES
UNEVEN = 10.0  # largest noise of a pixel over the median that is told; the same where there are no data


@dataclass(frozen=True, eq=False)
class Guess:
    """What goes into the network for one image, and how what comes out is read."""

    channels: np.ndarray  # (CHANNELS, H, W) float32
    conditions: np.ndarray  # (CONDITIONS,) float32
    base: np.ndarray  # (H, W), the balanced Tikhonov image
    scale: np.ndarray  # (H, W), counts that an output of 1 stands for

    def image(self, output):
        """The image for the network's output (H, W)."""
        return self.base + self.scale * output


def prepare(model, data, weight, balanced, regularization):
    """The network's view of an observation.

    .. math:: s^2 = n^2 + \\bar t^2, \\qquad c_i = (t_i - b) / s, \\quad c_4 = \\log(n / s), \\qquad x = t_2 + s f(c)

    t_i are Tikhonov images at 1/16, 1 and 16 lambda, b the sky, n the noise of t_2 at each pixel, and the last t,
    smoothed, the signal there. Everything in the brackets is a ratio: data times c give the image times c, and a
    constant sky comes out as that constant.

    Parameters
    ----------
    model : deconjugate.astro.forward.DataModel
    data, weight : (h, w) float32 arrays on the padded native grid
    balanced : (H, W) array on the padded fine grid
        The Tikhonov image at lambda.
    regularization : float, > 0
        lambda, as :func:`deconjugate.astro.tikhonov.tikhonov` takes it.

    Returns
    -------
    Guess
        On the padded fine grid.
    """
    level = float(np.median(weight[weight > 0]))
    sky = sky_of(data, weight) / model.upsample**2
    above = np.where(weight > 0, data - np.float32(sky * model.upsample**2), np.float32(0.0))
    images = [
        balanced - np.float32(sky) if step == 1.0 else tikhonov(model, above, weight, step * regularization, rtol=1e-2)
        for step in LADDER
    ]
    return seen_as(images, balanced, uneven_noise(model, weight, level), *describe(model, level, regularization))


def seen_as(images, balanced, uneven, conditions, noise):
    """A :class:`Guess` from the three Tikhonov images less the sky, what describes them, and how uneven the noise is."""
    noise = (noise * uneven).astype(np.float32)
    scale = np.hypot(noise, scipy.ndimage.gaussian_filter(images[-1], 1.0))
    channels = np.stack([*(image / scale for image in images), np.log(noise / scale)])
    return Guess(channels.astype(np.float32), conditions, balanced.astype(np.float32), scale.astype(np.float32))


def uneven_noise(model, weight, level):
    """The noise of every fine pixel over that of the median weight."""
    uneven = np.sqrt(level / np.maximum(weight, level / UNEVEN**2))
    return np.repeat(np.repeat(uneven, model.upsample, axis=0), model.upsample, axis=1).astype(np.float32)


def sky_of(data, weight):
    """The sky, counts in a native pixel, as the clipped median of the good pixels."""
    return _sky(data[weight > 0])


def describe(model, level, regularization):
    """Noise and response of the three Tikhonov images by starlet plane, as the network takes them; the noise of t_2.

    For native noise of variance 1 / level, uniform, with t^ = S y^ on every fine frequency,

    .. math:: n_j^2 = \\frac{1}{u^2 \\, \\mathrm{level}} \\mathrm{mean}_\\nu |\\phi_j S|^2, \\qquad
              R_j = \\frac{\\sum_\\nu |\\phi_j|^2 |a S|}{\\sum_\\nu |\\phi_j|^2}.
    """
    symbols = np.stack(
        [np.broadcast_to(s**2, model.transfer.shape) for s in starlet_symbols(model.frequencies, PLANES)]
    )
    columns = np.full(symbols.shape[-1], 2.0)
    columns[0] = 1.0
    if model.domain_shape[1] % 2 == 0:
        columns[-1] = 1.0
    symbols = symbols * (columns / np.prod(model.domain_shape))
    penalty = laplacian(model.frequencies) ** 2
    rows, total = [], 0.0
    flat = np.ones(model.transfer.shape, np.complex64) * model.transfer.conj() * model.upsample**2
    for step in LADDER:
        solver = BlockSolver(model, preconditioner_symbol(model, step * regularization * penalty, level), level)
        inverse = level * np.abs(solver.solve(flat.copy()))
        power = (symbols * inverse**2).sum(axis=(1, 2)) / (model.upsample**2 * level)
        response = (symbols * (np.abs(model.transfer) * inverse)).sum(axis=(1, 2)) / symbols.sum(axis=(1, 2))
        rows += [0.5 * np.log(power * level + 1e-10), np.log(response + 1e-5)]
        if step == 1.0:
            total = float(np.sqrt((columns * inverse**2).sum() / np.prod(model.domain_shape) / level) / model.upsample)
    return (np.concatenate(rows) / 3.0 + 1.0).astype(np.float32), total


def _sky(values):
    """Median of what is left after clipping at three sigma, both from the median."""
    values = np.sort(values.astype(np.float64))
    for _ in range(5):
        middle = np.median(values)
        spread = 1.4826 * np.median(np.abs(values - middle))
        low, high = np.searchsorted(values, [middle - 3 * spread, middle + 3 * spread], side="left")
        if not 0 < high - low < values.size:
            break
        values = values[low:high]
    return float(np.median(values))
