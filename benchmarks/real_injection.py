"""Part injection: galaxies and stars of known truth in quiet places of the real frames."""

from dataclasses import dataclass

import numpy as np
import scipy.ndimage
from real_frames import deconvolved, options_of, prepared_of, real_frames
from real_measures import holes, inside_sources, squared_error
from real_peers import peers
from real_scenes import galaxies_of, put
from scipy.signal.windows import tukey
from tables import row, table

from deconjugate.astro import PSF, deconvolve, simulate
from deconjugate.astro.detector import header_gain

HALF = 18  # native pixels: half of the side of a cut-out
MARGIN = 24  # native pixels around it for the peers
BRIGHT = {"cfhtls": (165, 191)}  # the saturated star, row and column
CORE = 22  # native pixels around it that peers do without
BESIDE = 28, 60  # native pixels from it
SNR = (20, 50, 200)
KINDS = ("galaxy", "galaxy", "star")


@dataclass(frozen=True, eq=False)
class Place:
    """A source that is put into a frame."""

    row: int
    column: int
    beside: bool
    kind: str
    snr: float
    sky: np.ndarray  # fine pixels, in counts of the frame


def injection(args):
    """NMSE and flux error of what was put in, in the frame and in simulated noise, beside the bright star and far."""
    sources = galaxies_of(args.half, 7)
    lines = []
    table("frame", "guess", "row, column", "where", "kind", "peak SNR", "NMSE in the frame", "in simulated noise",
          "ratio", "flux error", "simulated", "RL, best step", "FISTA, best step", "over the better")  # fmt: skip
    names = [name for name in ("cfhtls", "decam", "hsc_gal1") if name in args.frames]
    for frame in real_frames(args.folder, names):
        prepared = prepared_of(frame.path, options_of(frame))
        without = {name: deconvolved(frame, args.folder, network) for name, network in args.networks.items()}
        one = next(iter(without.values()))
        gain = gain_of(prepared, one)
        for batch in range(1 if args.quick else 2):
            places = chosen_places(frame.name, prepared, one, gain, sources, batch, args.quick)
            light = light_of(places, one)
            rng = np.random.default_rng([7, batch])
            noisy = light if gain is None else rng.poisson(np.maximum(light, 0.0) * gain) / gain
            data = np.where(np.isfinite(one.data), one.data + one.level, 0.0) + noisy
            noise = None
            if "noise" in frame.options:
                noise = np.sqrt(one.sigma**2 + (0.0 if gain is None else np.maximum(light, 0.0) / gain))
            for name, network in args.networks.items():
                after = deconvolved(frame, args.folder, network, data=data, noise=noise)
                image = after.image - without[name].image
                lines += [
                    line(args, frame.name, name, network, place, one, image, noisy, gain)
                    for place in places
                ]  # fmt: skip
    summary(args, lines)


def gain_of(prepared, one):
    """Counts to photons: of the header, else of a noise map that grows with the light; None where neither tells."""
    gain = header_gain(prepared.image.meta, prepared.image.unit)
    if gain is not None:
        return gain
    sky = np.median(one.sigma)
    bright = one.data > 20.0 * sky
    added = one.sigma**2 - sky**2
    if (
        prepared.noise_name.startswith("noise measured")
        or not bright.any()
        or np.median(added[bright]) <= 0.05 * sky**2
    ):
        return None
    return float(np.median(one.data[bright] / added[bright]))


def chosen_places(name, prepared, one, gain, sources, batch, quick):
    """Quiet places: the same galaxies beside the bright star and far from it; drawn from the number of the batch."""
    rng = np.random.default_rng([11, batch])
    quiet = quiet_pixels(one, BRIGHT.get(name))
    rows, columns = np.indices(quiet.shape)
    groups = [(False, quiet)]
    if name in BRIGHT:
        away = np.hypot(rows - BRIGHT[name][0], columns - BRIGHT[name][1])
        near = (away >= BESIDE[0]) & (away <= BESIDE[1])
        groups = [(True, quiet & near), (False, quiet & (away > 2 * BESIDE[1]))]
    places, taken = [], np.zeros(quiet.shape, bool)
    for beside, allowed in groups:
        for number in range(2 if quick else 3):
            free = np.argwhere(allowed & ~taken)
            if not len(free):
                break
            r, c = free[rng.integers(len(free))]
            taken |= np.hypot(rows - r, columns - c) < 2 * HALF
            kind = KINDS[(number + batch) % 3]
            which = 3 * batch + number
            image = np.ones((1, 1)) if kind == "star" else cut(sources[which % len(sources)], HALF * one.upsample)
            snr = SNR[which % 3]
            places.append(Place(int(r), int(c), beside, kind, snr, scaled(image, snr, one, gain, r, c)))
    return places


def quiet_pixels(one, bright):
    """Where a source may be put: nothing seen within 14 pixels but the halo of the bright star, the edge far enough."""
    sigma, data = np.median(one.sigma), np.where(one.bad, 0.0, one.data)
    smooth = scipy.ndimage.gaussian_filter(data, 2.0) / (sigma / (2.0 * np.sqrt(np.pi) * 2.0))
    bad = scipy.ndimage.binary_dilation(one.bad, iterations=2)
    if bright is not None:
        rows, columns = np.indices(data.shape)
        away = np.hypot(rows - bright[0], columns - bright[1])
        smooth = smooth - np.maximum(halo(smooth, bright), 0.0)
        smooth = smooth / np.maximum(1.5 * halo(np.abs(smooth), bright), 1.0)
        bad |= (away < 90) & ((np.abs(rows - bright[0]) < 6) | (np.abs(columns - bright[1]) < 6))  # its spikes
    loud = scipy.ndimage.binary_opening((smooth > 5.0), iterations=1) | bad
    quiet = scipy.ndimage.distance_transform_edt(~loud) > 12
    edge = HALF + 4
    quiet[:edge], quiet[-edge:], quiet[:, :edge], quiet[:, -edge:] = False, False, False, False
    return quiet


def halo(data, bright, reach=110):
    """The median of the rings around a place, as an image; that of the outermost one beyond it."""
    away = np.hypot(*(a - p for a, p in zip(np.indices(data.shape), bright)))
    ring = np.minimum(away.astype(int), reach)
    return np.interp(away, np.arange(reach + 1), [np.nanmedian(data[ring == k]) for k in range(reach + 1)])


def cut(image, half):
    """The middle of a galaxy, faded to nothing at its edges."""
    parts = [slice(max(n // 2 - half, 0), n // 2 + half) for n in image.shape]
    image = np.maximum(image[tuple(parts)], 0.0)
    return image * np.outer(*(tukey(n, 0.3) for n in image.shape))


def scaled(image, snr, one, gain, r, c):
    """The sky of a source whose brightest blurred pixel is so many sigmas of the noise there, its own included."""
    u, side = one.upsample, 2 * HALF * one.upsample
    sky = np.zeros((side, side))
    put(sky, image, HALF * u, HALF * u)
    peak = simulate(np.pad(sky, 32), one.psf, upsample=u, sigma=1.0).noiseless.max()
    s, k = one.sigma[r, c], 0.0 if gain is None else snr**2 / gain
    return sky * (0.5 * (k + np.sqrt(k**2 + 4.0 * snr**2 * s**2)) / peak)


def light_of(places, one):
    """Counts on the native grid of all sources, without noise."""
    u = one.upsample
    sky = np.zeros(one.image.shape)
    for place in places:
        put(sky, place.sky, u * place.row, u * place.column)
    return simulate(sky, one.psf, upsample=u, sigma=1.0).noiseless


def line(args, frame, guess, network, place, one, image, noisy, gain):
    """One source measured in the frame and in simulated noise of the same rms, and by the peers beside the star."""
    u, wide = one.upsample, HALF + MARGIN
    sky = np.pad(place.sky, MARGIN * u)
    clean = simulate(sky, one.psf, upsample=u, sigma=1.0)
    truth = clean.truth[MARGIN * u : -MARGIN * u, MARGIN * u : -MARGIN * u]
    local = one.sigma[place.row, place.column]
    photons = np.maximum(clean.noiseless, 0.0) * (0.0 if gain is None else 1.0 / gain)
    sigma = np.sqrt(local**2 + photons)
    rng = np.random.default_rng([13, place.row, place.column])
    scene = clean.noiseless + sigma * rng.standard_normal(sigma.shape)
    alone = deconvolve(scene, psf_of(one), upsample=u, noise=sigma, network=network).image.data
    alone = alone[MARGIN * u : -MARGIN * u, MARGIN * u : -MARGIN * u]
    box = tuple(slice(u * (p - HALF), u * (p + HALF)) for p in (place.row, place.column))
    errors = squared_error(image[box], truth), squared_error(alone, truth)
    inside = inside_sources(truth.reshape(2 * HALF, u, 2 * HALF, u).sum((1, 3)), local, u)
    pitted = [holes(x, inside, u) for x in (image[box], truth)]
    near = aperture(truth)
    fluxes = [float(x[near].sum() / truth[near].sum() - 1.0) for x in (image[box], alone)]
    best = None
    if place.beside:
        native = tuple(slice(max(p - wide, 0), p + wide) for p in (place.row, place.column))
        start = [u * (p - HALF - s.start) for p, s in zip((place.row, place.column), native)]
        inner = min(start)
        # Peers know of no halo and no saturation: they are spared the rings' medians, a plane and the star itself.
        bright = BRIGHT[frame]
        flat = one.data - halo(one.data, bright)
        away = np.hypot(*(a - p for a, p in zip(np.indices(flat.shape), bright)))
        before = np.where(one.bad | (away < CORE), np.nan, flat)[native]
        seen = before - plane(before, one.sigma[native]) + noisy[native]
        whole = np.zeros([u * n for n in seen.shape])
        put(whole, truth, start[0] + HALF * u, start[1] + HALF * u)
        best = peers(seen, one.sigma[native], one.psf, u, whole, inner, which=("lucy", "fista"))
    ratio = None if best is None else errors[0] / min(best["lucy"], best["fista"])
    where = "beside" if place.beside else "far"
    cells = ["-"] * 3 if best is None else [f"{best['lucy']:.4f}", f"{best['fista']:.4f}", f"{ratio:.2f}"]
    row(frame, guess, f"{place.row}, {place.column}", where, place.kind, place.snr, *(f"{e:.4f}" for e in errors),
        f"{errors[0] / errors[1]:.2f}", *(f"{f:+.2%}" for f in fluxes), *cells)  # fmt: skip
    return frame, guess, where, place.kind, place.snr, *errors, *fluxes, ratio, *pitted


def psf_of(one):
    return PSF.from_array(one.psf, oversampling=one.upsample, includes_pixel=False)


def aperture(truth):
    """The circle around the middle that holds 97 % of the flux."""
    rows, columns = np.indices(truth.shape)
    away = np.hypot(rows - truth.shape[0] // 2, columns - truth.shape[1] // 2)
    order = np.argsort(away.ravel())
    share = np.cumsum(truth.ravel()[order]) / truth.sum()
    return away <= away.ravel()[order][np.searchsorted(share, 0.97)]


def plane(data, sigma):
    """The plane that fits a cut-out, its brightest pixels left out: the halo of the star for peers, which know none."""
    rows, columns = (a - a.mean() for a in np.indices(data.shape))
    basis = np.stack([np.ones(data.shape), rows, columns], axis=-1)
    used = np.isfinite(data)
    for _ in range(5):
        fit, *_ = np.linalg.lstsq(basis[used], data[used], rcond=None)
        used = np.isfinite(data) & (np.abs(data - basis @ fit) < 3.0 * np.median(sigma))
        if used.sum() < 50:
            break
    return basis @ fit


def summary(args, lines):
    """Medians by frame and guess, and the ratios that are asked for."""
    table("frame", "guess", "where", "sources", "NMSE over simulated (asked 1.25)", "median |flux error|, SNR >= 20",
          "simulated", "over the better peer (asked 0.7)", "holes", "of the truths")  # fmt: skip
    ratios = {}
    for key in dict.fromkeys(entry[:3] for entry in lines):
        some = [entry for entry in lines if entry[:3] == key]
        ratio = float(np.exp(np.median(np.log([e[5] / e[6] for e in some]))))
        flux, simulated = (float(np.median(np.abs([e[k] for e in some]))) for k in (7, 8))
        pitted, of_truth = (float(np.nanmean([e[k] for e in some])) for k in (10, 11))
        peer = [e[9] for e in some if e[9] is not None]
        ratios[key] = ratio
        over = float(np.exp(np.median(np.log(peer)))) if peer else None
        args.results.note(
            f"real/injection, {', '.join(key)}", sources=len(some), ratio=ratio, flux=flux, over_peer=over
        )
        row(*key, len(some), f"{ratio:.2f}", f"{flux:.2%}", f"{simulated:.2%}", "-" if over is None else f"{over:.2f}",
            f"{pitted:.1%}", f"{of_truth:.1%}")  # fmt: skip
    for (frame, guess, where), ratio in ratios.items():
        if where == "beside":
            print(f"- {frame}, {guess}: beside the star over far from it: {ratio / ratios[frame, guess, 'far']:.2f} "
                  "(asked 1.1)")  # fmt: skip
