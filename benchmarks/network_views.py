"""Ground views of the validation galaxies of one half, and the images that are made of them."""

import numpy as np
from bench_deconvolution import galaxies, psf_of
from deconvolution_peers import oracle_tikhonov, starlet_fista

from deconjugate.astro import deconvolve, simulate
from deconjugate.astro.forward import DataModel


def chosen(args):
    """Galaxies of one half, bands of one galaxy never apart, a ``step``-th of them."""
    numbers = {}
    half = []
    for name, image in galaxies(1):
        galaxy = name.rsplit("-", 1)[0] if name.startswith("candels") else name
        number = numbers.setdefault(galaxy, len(numbers))
        if (number % 2 == 0) == (args.half == "select"):
            half.append(image)
    return half[:: args.step]


def views(args, kind, upsample, snr, seed=0, **options):
    """PSF and simulated scene of every galaxy that was chosen; ``seed`` tells realisations of the noise apart."""
    for number, image in enumerate(chosen(args)):
        sky = np.pad(image, 14 * upsample)
        sky = np.pad(sky, [(0, -n % upsample) for n in sky.shape])
        psf = psf_of(kind, number)
        yield psf, simulate(sky, psf, upsample=upsample, peak_snr=snr, seed=[seed, number, snr], **options)


def ours(args, scene, psf, noise=None):
    """Classical path, network alone, network and correction; chi^2 of the last."""
    options = {"upsample": scene.upsample, "noise": scene.noise_map if noise is None else noise}
    classical = deconvolve(scene.data, psf, network=None, **options)
    learned = deconvolve(scene.data, psf, network=args.weights, device="cpu", **options)
    return [classical.image.data, learned.stages["network"], learned.image.data], learned.reduced_chi2


def as_peers_take_it(scene):
    """Forward model, data and weights with its margins, and the truth, in units of the noise."""
    sigma = scene.noise_map[0, 0]
    model = DataModel(scene.data.shape, scene.psf, scene.upsample)
    y = model.embed((scene.data / sigma).astype(np.float32))
    return model, y, model.embed(np.ones(scene.data.shape, np.float32)), scene.truth / sigma


def beside(scene):
    """Tikhonov with the best lambda, the NMSE of FISTA from there step by step, and what other peers take."""
    model, y, w, truth = as_peers_take_it(scene)
    best = oracle_tikhonov(model, y, w, truth)
    start = np.zeros(model.domain_shape, np.float32)
    start[model.inside] = best
    options = {"n_scales": 4 + round(np.log2(scene.upsample)), "maxiter": 50 * scene.upsample}
    path = starlet_fista(model, y, w, start, truth, **options)
    return best, path, (model, y, w, truth)
