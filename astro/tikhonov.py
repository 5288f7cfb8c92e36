"""Step 1: weighted Tikhonov, its weight chosen from the data, and the block solve that every step leans on."""

import numpy as np
import scipy.fft
import scipy.ndimage
import scipy.optimize
import scipy.signal
import scipy.sparse.linalg

LEAST = 0.01  # smallest lambda, times the square of the largest signal to noise, over upsample^4
# lambda, in units of the mean weight, of the fit that fills masked pixels; a decade either way changes little.
FILL = 1e-3
LOG_LARGEST = np.log(1e8)  # of lambda
CROSSING = 8.0  # sigmas at the edge of a frame, smoothed, of light that crosses it
RIM = 8  # sides of a frame over that of the rim in which its mirror image fades


class BlockSolver:
    """(gamma A^T A + Q)^-1 for a circulant Q, exact: A^T A is of rank one in each group of aliased frequencies.

    .. math:: (\\gamma u^2 \\bar a a^T + q)^{-1} b = q^{-1} b - \\frac{\\gamma u^2 \\, q^{-1} \\bar a \\;
              \\mathrm{fold}(a \\, q^{-1} b)}{1 + \\gamma u^2 \\, \\mathrm{fold}(|a|^2 / q)}

    Parameters
    ----------
    model : deconjugate.astro.forward.DataModel
    quadratic : array
        q > 0, the symbol of Q: one number, or an array on the half-spectrum of the padded fine grid.
    gamma : float, > 0

    Source
    ------
    Zhao et al., IEEE Transactions on Image Processing 25, 3683 (2016).
    """

    def __init__(self, model, quadratic, gamma=1.0):
        self.model, self.gamma = model, gamma
        self.inverse = model.symbol(1.0 / quadratic)
        gain = model.fold(model.transfer.conj() * self.inverse).real
        self.scale = (gamma * model.upsample**2 / (1.0 + gamma * model.upsample**2 * gain)).astype(np.float32)

    def solve(self, spectrum):
        """The half-spectrum of the solution for that of b, which is overwritten."""
        spectrum *= self.inverse
        correction = self.model.fold(spectrum)
        correction *= self.scale
        return self.model.subtract(correction, self.inverse, spectrum)


def laplacian(frequencies):
    """Symbol of the 3 x 3 Laplacian (4 in the middle, -1 beside it): it leaves the flux alone."""
    return sum(2.0 - 2.0 * np.cos(2.0 * np.pi * f) for f in frequencies)


def preconditioner_symbol(model, penalty, mean):
    """Q of the block solve that preconditions step 1, for data of a mean weight.

    At low frequencies, where the penalty is next to nothing beside the data, the solve would be the difference of two
    numbers a million times its size. A hundredth of |a|^2 more there costs no step and keeps rounding where it is.
    """
    return penalty + mean * (1e-6 + 1e-2 * abs(model.transfer) ** 2)


def tikhonov(model, data, weight, regularization, *, rtol=1e-3, maxiter=60):
    """The image that balances the weighted residual against the roughness of the image.

    .. math:: (A^T W A + \\lambda L^T L) x = A^T W y

    By conjugate gradients, preconditioned by the same system with uniform weights, which is block-diagonal in Fourier
    space: a periodic, unmasked frame of uniform noise takes one iteration.

    Parameters
    ----------
    model : deconjugate.astro.forward.DataModel
    data, weight : (h, w) arrays on the padded native grid
        y, and W = 1 / sigma^2, zero where there are no data.
    regularization : float, > 0
        lambda; larger is smoother.
    rtol : float, in (0, 1)
        Stop when the residual of the system has fallen by this factor.
    maxiter : int

    Returns
    -------
    array on the padded fine grid, of the dtype of ``data``
    """
    penalty = regularization * laplacian(model.frequencies) ** 2
    dtype = data.dtype

    def normal(v):
        spectrum = scipy.fft.rfft2(v.reshape(model.domain_shape).astype(dtype, copy=False), workers=model.workers)
        smooth = penalty.astype(dtype) * spectrum
        smooth += model.from_native(weight * model.to_native(spectrum))
        return model.to_image(smooth).ravel()

    mean = float(weight[weight > 0].mean())
    solver = BlockSolver(model, preconditioner_symbol(model, penalty, mean), mean)

    def precondition(v):
        v = v.reshape(model.domain_shape).astype(np.float32, copy=False)
        return model.to_image(solver.solve(scipy.fft.rfft2(v, workers=model.workers))).ravel()

    n = int(np.prod(model.domain_shape))
    system = scipy.sparse.linalg.LinearOperator((n, n), normal, dtype=dtype)
    M = scipy.sparse.linalg.LinearOperator((n, n), precondition, dtype=dtype)
    b = model.adjoint(weight * data).ravel()
    x, _ = scipy.sparse.linalg.cg(system, b, rtol=rtol, maxiter=maxiter, M=M)
    return x.reshape(model.domain_shape)


def choose_regularization(model, data, weight, *, complete=False):
    """lambda by maximum likelihood of the native spectrum, for an image of random phases and power tau / |L|^2.

    .. math:: y^_m \\sim N(0, S_m), \\quad S_m = 1 + \\frac{1}{\\lambda} \\mathrm{fold}(u^2 |a|^2 / |L|^2)_m, \\qquad
              \\lambda = \\arg\\min \\sum_m \\log S_m + |\\hat y_m|^2 / S_m

    on data in units of their noise, continued beyond the edges of the frame by their mirror image, which fades within
    the margin, masked pixels filled by a first Tikhonov fit. (Faded within the frame, a galaxy that an edge cuts at its
    brightest would look sharper than any PSF makes it, and lambda be next to zero.) The frequency zero, which the penalty leaves free, is left out. It neither needs the truth nor undersmooths
    as prediction risk and cross-validation do. Where the PSF is wrong or a bleeding star was not masked, data sharper
    than the PSF would have it next to zero and the image all ringing: it is at least 0.01 u^4 over the largest signal
    to noise squared, half of what a crowd of stars asks for and a thousandth of what a single star does.

    Parameters
    ----------
    model : deconjugate.astro.forward.DataModel
    data, weight : (h, w) arrays on the padded native grid
    complete : bool
        Whether pixels without weight have been filled.

    Returns
    -------
    float
        lambda in units of the mean weight: what :func:`tikhonov` takes.
    """
    good = weight > 0
    level = float(weight[good].mean())
    middle = np.median(data[good])
    data = data if complete else filled(model, data, weight)
    # Noise that is larger in some pixels than in others would pass for structure.
    white = np.sqrt(np.where(good, np.minimum(weight / level, 1.0), 1.0))[model.frame]
    extended, window = _continued((data[model.frame] - middle) * white * np.sqrt(level), model)
    power = np.abs(scipy.fft.rfft2(extended)) ** 2 / np.sum(window**2)
    penalty = laplacian(model.frequencies) ** 2
    penalty[0, 0] = 1.0
    prior = model.fold(model.transfer.conj() / penalty).real * model.upsample**2
    keep = np.ones(prior.shape, bool)
    keep[0, 0] = False
    power, prior = power[keep], prior[keep]

    def cost(log_lambda):
        variance = 1.0 + prior * np.exp(-log_lambda)
        return float(np.sum(np.log(variance) + power / variance))

    peak = max(float(np.max(data * data * weight)), 1.0)
    least = min(max(1e-8, LEAST * model.upsample**4 / peak), 1e7)
    best = scipy.optimize.minimize_scalar(cost, bounds=(np.log(least), LOG_LARGEST), method="bounded")
    return float(np.exp(best.x)) * level


def filled(model, data, weight):
    """The data, pixels without weight replaced by what the others predict in a first Tikhonov fit.

    A hole in a star would look like structure at every frequency.
    """
    good = weight > 0
    if good[model.frame].all():
        return data
    fitted = model.apply(tikhonov(model, data, weight, FILL * float(weight[good].mean()), rtol=1e-3))
    return np.where(good, data, fitted)


def _continued(frame, model):
    """A frame on the padded native grid, faded to zero at its edges, and how it fades.

    Within its outermost twentieth, but where light crosses the edge: then beyond it, in a mirror image.
    """
    window, extended = np.zeros(model.range_shape), np.zeros(model.range_shape)
    fade = np.outer(*(scipy.signal.windows.tukey(n, 0.1, sym=True) for n in frame.shape))
    faded = np.where(fade < 0.999, frame, 0.0)
    if np.abs(scipy.ndimage.gaussian_filter(faded, 1.0)).max() <= CROSSING / (2.0 * np.sqrt(np.pi)):
        window[model.frame] = fade
        extended[model.frame] = frame * fade
        return extended, window
    places, sources, fades = [], [], []
    for inside, n, room in zip(model.frame, frame.shape, model.range_shape):
        rim = min(max(2, n // RIM), inside.start, room - inside.stop, n - 1)
        k = np.arange(-rim, n + rim)
        places.append(slice(inside.start - rim, inside.stop + rim))
        sources.append(np.where(k < 0, -1 - k, np.where(k < n, k, 2 * n - 1 - k)))
        fades.append(0.5 + 0.5 * np.cos(np.pi * np.maximum(np.maximum(-k, k - n + 1), 0) / (rim + 1.0)))
    window[tuple(places)] = np.outer(*fades)
    extended[tuple(places)] = frame[np.ix_(*sources)] * window[tuple(places)]
    return extended, window
