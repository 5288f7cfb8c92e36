"""Classical deconvolution by other methods, each at its best: stop or weight chosen with the truth at hand.

All use the exact forward model of deconjugate.astro.forward, margins included, in units of the noise.
"""

import numpy as np
import scipy.fft

from deconjugate.astro.metrics import nmse
from deconjugate.astro.sparse import gradient_noise, starlet_symbols
from deconjugate.astro.tikhonov import BlockSolver, laplacian, tikhonov
from deconjugate.operators import Starlet, operator_norm


def oracle_tikhonov(model, y, w, truth):
    """Tikhonov with the best of lambda from 1e-4 to 1e4, three a decade."""
    images = (model.crop(tikhonov(model, y, w, lam)) for lam in np.geomspace(1e-4, 1e4, 25))
    return min(images, key=lambda x: nmse(x, truth))


def paper_tikhonov(model, y, lam=9e-3):
    """conj(H) / (|H|^2 + lambda |L|^2), constant included, on pixels cut up: Akhaury et al. (2024)."""
    u = model.upsample
    cut = np.repeat(np.repeat(y, u, axis=0), u, axis=1) / u**2
    # Cutting pixels up puts back what summing them takes to one corner: the same blur, centred.
    centred = model.transfer * np.exp(-1j * np.pi * (u - 1) * sum(model.frequencies))
    inverse = centred.conj() / (np.abs(centred) ** 2 + lam * laplacian(model.frequencies) ** 2)
    return model.crop(scipy.fft.irfft2(scipy.fft.rfft2(cut) * inverse, model.domain_shape))


def oracle_wiener(model, y, truth):
    """Wiener's filter for the exact model, with the spectrum of the truth itself, averaged over rings."""
    whole = np.zeros(model.domain_shape)
    whole[model.inside] = truth
    power = np.abs(np.fft.rfft2(whole)) ** 2 / whole.size
    ring = np.round(np.hypot(*model.frequencies) * 2 * max(model.domain_shape)).astype(int)
    mean = np.bincount(ring.ravel(), power.ravel()) / np.maximum(np.bincount(ring.ravel()), 1)
    solver = BlockSolver(model, 1.0 / np.maximum(mean[ring], 1e-9 * mean.max()))
    return model.crop(model.to_image(solver.solve(model.from_native(y))))


def oracle_richardson_lucy(model, y, w, truth, maxiter=300):
    """Richardson-Lucy at its best iteration, with the better of two pedestals that keep the data positive."""
    best = None
    for pedestal in (0.1, 1.0):
        shifted = np.where(w > 0, np.maximum(y + pedestal, 0.0), 0.0).astype(np.float32)
        seen = np.maximum(model.adjoint(w), 0.05)
        x = np.full(model.domain_shape, max(float(y[w > 0].mean()), 0.1) / model.upsample**2, np.float32)
        for _ in range(maxiter):
            ratio = w * shifted / np.maximum(model.apply(x) + pedestal, 1e-6)
            x = np.maximum(x * model.adjoint(ratio) / seen, 0.0)
            error = nmse(model.crop(x), truth)
            if best is None or error < best[0]:
                best = error, model.crop(x).copy()
    return best[1]


def starlet_fista(model, y, w, start, truth, *, k_sigma=3.0, n_scales=5, maxiter=100, inner=5):
    """FISTA for min_{x >= 0} 1/2 ||y - A x||_W^2 + k sum_j sigma_j ||w_j(x)||_1: the NMSE after every iteration.

    The proximal map, positivity included, is solved by accelerated projected gradients on its dual, started from the
    dual of the step before; thresholding the planes and adding them up would not be that map.
    """
    starlet = Starlet(model.domain_shape, n_scales)
    levels = k_sigma * gradient_noise(model, starlet_symbols(model.frequencies, n_scales))
    step = 1.0 / (1.02 * operator_norm(model) ** 2)
    bound = np.append(step * levels, 0.0).astype(np.float32)[:, None, None]
    x = np.maximum(start, 0.0)
    z, t, errors = x, 1.0, []
    dual = np.zeros(starlet.range_shape, np.float32)
    for _ in range(maxiter):
        v = z + np.float32(step) * model.adjoint(w * (y - model.apply(z)))
        point, s = dual, 1.0
        for _ in range(inner):
            ascent = starlet.apply(np.maximum(v - starlet.adjoint(point), 0.0))
            new = np.clip(point + ascent, -bound, bound)
            s_new = (1.0 + np.sqrt(1.0 + 4.0 * s * s)) / 2.0
            point = new + np.float32((s - 1.0) / s_new) * (new - dual)
            dual, s = new, s_new
        new = np.maximum(v - starlet.adjoint(dual), 0.0)
        t_new = (1.0 + np.sqrt(1.0 + 4.0 * t * t)) / 2.0
        z, x, t = new + np.float32((t - 1.0) / t_new) * (new - x), new, t_new
        errors.append(nmse(model.crop(x), truth))
    return errors
