"""Part edges: galaxies that the frame cuts, and galaxies that hardly stand out, where a correction did harm."""

import numpy as np
from real_measures import squared_error
from real_peers import peers
from real_scenes import galaxies_of, put
from tables import row, table

from deconjugate.astro import PSF, deconvolve, simulate

SCENES, SIDE = 20, 96  # scenes of a kind, fine pixels of a side


def edges(args):
    """NMSE of the result, of the network's guess before the correction and of FISTA at its best step."""
    number = 3 if args.quick else SCENES
    sources = galaxies_of(args.half, 3)
    table("kind", "scene", "upsample", "FWHM, fine pixels", "peak SNR", "guess alone", "network", "over the guess",
          "chi2", "classical", "chi2", "FISTA, best step", "network over it", "classical over it")  # fmt: skip
    summary = []
    for kind, draw in (("cut", cut_scene), ("faint", faint_scene)):
        rows = [line(args, kind, i, *draw(i, sources)) for i in range(number)]
        columns = [np.array([r[k] for r in rows], float) for k in range(len(rows[0]))]
        summary.append((kind, *columns))
    table("kind", "scenes", "network over the guess, median", "largest (asked 1.05)", "network over FISTA, median",
          "largest (asked 1.10)", "classical over FISTA, median", "largest")  # fmt: skip
    for kind, guess, fista, classical in summary:
        args.results.note(f"real/edges, {kind}", over_guess=guess, over_fista=fista, classical_over_fista=classical)
        cells = [f(x) for x in (guess, fista, classical) for f in (np.median, np.max)]
        row(kind, len(guess), *(f"{c:.2f}" for c in cells))


def line(args, kind, number, scene, psf, upsample, width, snr):
    sigma, truth = scene.noise_map, scene.truth
    best = peers(scene.data, sigma, scene.psf, upsample, truth, which=("fista",))["fista"]
    found = dict.fromkeys(("guess", "network", "classical", "chi2", "chi2 classical"), np.nan)
    for name, network in args.networks.items():
        result = deconvolve(scene.data, psf, upsample=upsample, noise=sigma, network=network)
        found[name] = squared_error(result.image.data, truth)
        found["chi2" if name == "network" else "chi2 classical"] = result.reduced_chi2
        if name == "network" and "network" in result.stages:
            found["guess"] = squared_error(result.stages["network"], truth)
    ratios = found["network"] / found["guess"], found["network"] / best, found["classical"] / best
    row(kind, number, upsample, f"{width:.1f}", snr, f"{found['guess']:.4f}", f"{found['network']:.4f}",
        f"{ratios[0]:.2f}", f"{found['chi2']:.2f}", f"{found['classical']:.4f}", f"{found['chi2 classical']:.2f}",
        f"{best:.4f}", *(f"{r:.2f}" for r in ratios[1:]))  # fmt: skip
    return ratios


def cut_scene(number, sources):
    """Two galaxies whose middles lie within some pixels of opposite or neighbouring edges of the frame."""
    rng = np.random.default_rng([5, number])
    u = (2, 4, 4, 3)[number % 4]
    width = (3.0, 3.5, 2.5, 4.0, 4.0)[number % 5]  # native pixels; 16 fine ones at most
    snr = (200, 50, 500, 100)[number // 4 % 4]
    side, beyond = SIDE // u * u, 24 * u
    sky = np.zeros((side + 2 * beyond,) * 2)
    for k in range(2):
        image = sources[(7 * number + 3 * k) % len(sources)]
        place = rng.integers(beyond, beyond + side, 2)
        place[rng.integers(2)] = beyond + (rng.integers(-4, 14) if k == 0 else side - 1 - rng.integers(-4, 14))
        put(sky, image, *place, scale=(1.0 if k == 0 else rng.uniform(0.3, 1.0)) / image.max())
    psf = PSF.moffat(width, beta=3.0)
    return simulate(np.maximum(sky, 0.0), psf, upsample=u, peak_snr=snr, margin=24, seed=number), psf, u, u * width, snr


def faint_scene(number, sources):
    """A disc, edge-on every other time, or a galaxy of the half, of peak SNR 5 to 15."""
    rng = np.random.default_rng([6, number])
    u, width, snr = (2, 3, 4, 2)[number % 4], (3.0, 4.0, 3.5)[number % 3], (5, 8, 10, 15)[number // 2 % 4]
    side = SIDE // u * u
    sky = np.zeros((side, side))
    if number % 4 == 3:
        image = sources[(5 * number) % len(sources)]
        put(sky, image, side // 2, side // 2)
    else:
        ratio, length, angle = (
            (0.12 if number % 2 == 0 else rng.uniform(0.3, 1)),
            rng.uniform(5, 10),
            rng.uniform(0, 3.14),
        )
        rows, columns = np.indices(sky.shape) - side / 2 + 0.3
        along = columns * np.cos(angle) + rows * np.sin(angle)
        across = rows * np.cos(angle) - columns * np.sin(angle)
        sky += np.exp(-np.hypot(along, across / ratio) / length)
    psf = PSF.moffat(width, beta=3.0)
    return simulate(sky, psf, upsample=u, peak_snr=snr, seed=number), psf, u, u * width, snr
