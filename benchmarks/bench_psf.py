"""PSFs measured on the stars of simulated fields, beside the truth, beside photutils, and what a wrong PSF does.

    python benchmarks/bench_psf.py [measured | stated | varies | errors | all] [--quick] [--without-peers]
        [--draw psf-errors.png]

measured: 60 stars of peak SNR 10 to 1000 and 12 galaxies on 311 x 347 pixels. FWHM of the PSF measured over the
true one; ||e - truth||_1 on a grid of 4 samples a pixel, whole and within 2 FWHM, beside what the file says of
itself (half of the stars against the other half); and that of photutils' EPSFBuilder on the same stars, at the best
of three settings as the truth has it. PSFEx models of real exposures are looked for in DECONJUGATE_DATA, else
beside the checkout.
stated: the error that measured PSFs state of themselves beside the true one: fields of 1 to 40 stars among galaxies,
of ten PSFs, two of which vary over the frame.
varies: a frame over which the FWHM changes by 20 per cent and the ellipticity by 0.1: width and ellipticity of the PSF
measured with order 0 and with "auto", beside the truth, and the widths of stars after deconvolution, fine pixels.
errors: a galaxy of peak SNR 40 and five stars of 7 to 200 deconvolved with PSFs that are too narrow or too wide.
"""

import argparse
import os
import warnings
from pathlib import Path

import numpy as np
import torch
from psf_fields import changing, distance, draw, effective_shape, field, fixed, psfex_core
from results import begin

from deconjugate.astro import PSF, deconvolve, simulate
from deconjugate.astro.metrics import nmse
from deconjugate.astro.parametric import parametric_galaxy
from deconjugate.astro.star_psf import measure_psf

DATA = Path(os.environ.get("DECONJUGATE_DATA", Path(__file__).parents[1].parent / "shared" / "data"))
SAMPLING = 4  # fine pixels per pixel of the star fields
PEAK_SNR, SKY = 1000.0, 50.0
WIDTHS = (-0.10, -0.05, -0.02, 0.0, 0.02, 0.05, 0.10)
SETTINGS = (2, "quartic"), (2, "quadratic"), (4, "quartic")  # of photutils: oversampling and smoothing
TILE = 124  # pixels, within which the PSF of a frame is taken for one: the least that this one allows
DRAWN = (-0.10, -0.05, 0.0, 0.05, 0.10)


def star_field(psf, seed, shape=(311, 347), stars=60, galaxies=12):
    rng = np.random.default_rng(seed)
    sky = np.zeros([SAMPLING * n for n in shape], np.float32)
    for flux in 1e5 * 10 ** rng.uniform(-2, 0, stars):
        sky[tuple(rng.integers(0, n) for n in sky.shape)] += flux
    y, x = np.mgrid[-40:41, -40:41]
    for _ in range(galaxies):
        i, j = (rng.integers(60, n - 60) for n in sky.shape)
        galaxy = np.exp(-np.hypot(x, y / rng.uniform(0.4, 1.0)) / rng.uniform(3.0, 8.0))
        sky[i - 40 : i + 41, j - 40 : j + 41] += galaxy * 1e5 * 10 ** rng.uniform(-1, 0) / galaxy.sum()
    return simulate(sky, psf, upsample=SAMPLING, peak_snr=PEAK_SNR, background=SKY, seed=seed)


def difference(one, other, radius=np.inf):
    """||one - other||_1 on the fine grid, within a radius in pixels of the star field."""
    arrays = [p.fine(SAMPLING) for p in (one, other)]
    sides = [max(a.shape[i] for a in arrays) for i in (0, 1)]
    padded = [np.pad(a, [((s - n) // 2,) * 2 for s, n in zip(sides, a.shape)]) for a in arrays]
    y, x = ((np.arange(n) - n // 2) / SAMPLING for n in sides)
    return float(np.abs(padded[0] - padded[1])[np.hypot(y[:, None], x) <= radius].sum())


def photutils_psf(scene, measured, settings=SETTINGS):
    """EPSFBuilder on the stars that were used: the PSF of each setting."""
    from astropy.nddata import NDData
    from astropy.table import Table
    from photutils.psf import EPSFBuilder, extract_stars

    size = 2 * int(4.0 * measured.fwhm_pix) + 1
    table = Table({"x": measured.stars["x"], "y": measured.stars["y"]})
    psfs = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for oversampling, kernel in settings:
            stars = extract_stars(NDData(np.asarray(scene.data, float) - SKY), table, size=size)
            builder = EPSFBuilder(oversampling=oversampling, smoothing_kernel=kernel, maxiters=10, progress_bar=False)
            psfs.append(PSF.from_epsf(builder(stars)[0]))
    return psfs


def fields(quick):
    """Names and PSFs."""
    yield "Moffat, FWHM 3.5, beta 3", PSF.moffat(3.5)
    if quick:
        return
    yield "Moffat, FWHM 1.8, beta 3.5", PSF.moffat(1.8, beta=3.5)
    yield "Moffat, FWHM 4, beta 2.5, ellipticity 0.15", PSF.moffat(4.0, beta=2.5, ellipticity=0.15, pa=30.0)
    yield "Gaussian, FWHM 6", PSF.gaussian(6.0)
    core, halo = PSF.gaussian(3.0).fine(SAMPLING), PSF.moffat(6.0, ellipticity=0.3, pa=70.0).fine(SAMPLING)
    inner = tuple(slice((n - m) // 2, (n + m) // 2) for n, m in zip(halo.shape, core.shape))
    both = 0.4 * halo
    both[inner] += 0.6 * core
    # Samples of the PSF integrated over fine pixels, as the simulation takes them.
    yield "Gaussian of 3 and Moffat of 6, 60 : 40", _as_it_is(both)
    for path in sorted((DATA / "psfex" / "val").glob("*")):
        yield f"PSFEx, {path.name[:22]}", _as_it_is(PSF.from_file(path).fine(SAMPLING))


class _Fixed(PSF):
    """A PSF that is given on the grid of the star fields."""

    def __init__(self, p):
        self.p = p / p.sum()

    def fine(self, upsample, **_):
        if upsample == SAMPLING:
            return self.p
        raise ValueError(f"known for {SAMPLING} samples a pixel only")


def _as_it_is(p):
    return _Fixed(p)


def true_fwhm(p):
    """FWHM of the effective PSF, from the fine grid."""
    from deconjugate.astro.shape import fwhm_pix

    kernel = np.ones(SAMPLING)
    rows = np.apply_along_axis(np.convolve, 0, p, kernel)
    return float(fwhm_pix(np.apply_along_axis(np.convolve, 1, rows, kernel))) / SAMPLING


def measured(quick, peers, results):
    head = "PSF", "stars", "FWHM over the true one", "error in light", "within 2 FWHM", "as it says itself", "photutils"
    print("| " + " | ".join(head) + " |\n" + "|---" * len(head) + "|")
    some = SETTINGS[:1] if quick else SETTINGS
    for seed, (name, psf) in enumerate(fields(quick)):
        scene = star_field(psf, seed)
        found = measure_psf(scene.data, SKY, scene.noise_map)
        try:
            peer = "-" if not peers else f"{min(difference(p, psf) for p in photutils_psf(scene, found, some)):.3f}"
        except Exception as error:  # a peer that fails is reported, not hidden
            peer = f"fails: {type(error).__name__}"
        ratio = found.fwhm_pix / true_fwhm(psf.fine(SAMPLING))
        error, core = difference(found.psf, psf), difference(found.psf, psf, 2.0 * found.fwhm_pix)
        results.note(f"psf/{name}", stars=found.count, fwhm_ratio=ratio, error=error, core=core, photutils=peer)
        print(
            f"| {name} | {found.count} | {ratio:.4f} | {error:.3f} | {core:.3f} | {found.error:.3f} | {peer} |",
            flush=True,
        )


def psfs_of_fields(quick):
    """Names, and p on the fine grid as a function of the position."""
    yield "Moffat, FWHM 3, beta 3.5", fixed(PSF.moffat(3.0, beta=3.5))
    yield "varies: width by 20 %, ellipticity by 0.1", changing((311, 347))
    if quick:
        return
    yield "Moffat, FWHM 1.9, beta 3", fixed(PSF.moffat(1.9, ellipticity=0.05, pa=70.0))
    yield "Moffat, FWHM 4.2, beta 2.7, ellipticity 0.2", fixed(PSF.moffat(4.2, beta=2.7, ellipticity=0.2, pa=120.0))
    yield "Gaussian, FWHM 4", fixed(PSF.gaussian(4.0))
    yield "Moffat, FWHM 6, beta 3.2", fixed(PSF.moffat(6.0, beta=3.2))
    for path in sorted((DATA / "psfex" / "val").glob("*")):
        yield f"PSFEx, {path.name[:22]}", fixed(psfex_core(path))
    yield "varies: width by 8 %, ellipticity by 0.03", changing((311, 347), 0.08, 0.03)


def stated(quick, results):
    counts = (2, 16) if quick else (1, 3, 7, 16, 40)
    print("| true error / the one stated (stars used, order) |" + "".join(f" {n} stars |" for n in counts))
    print("|---" * (len(counts) + 1) + "|")
    ratios = {n: [] for n in counts}
    for k, (name, psf_at) in enumerate(psfs_of_fields(quick)):
        cells = []
        for n in counts:
            data, shape = field(psf_at, n, 1000 * n + k)
            try:
                found = measure_psf(data, 0.0, 1.0)
            except ValueError:
                cells.append("no star")
                continue
            places = [(a * shape[1], b * shape[0]) for a in (0.1, 0.5, 0.9) for b in (0.1, 0.5, 0.9)]
            true = float(np.mean([distance(found.psf, psf_at, *place) for place in places]))
            ratios[n].append(true / found.error)
            cells.append(f"{true:.3f} / {found.error:.3f} ({found.count}, {found.order})")
            results.note(f"psf/stated/{name}/{n}", true=true, stated=found.error, stars=found.count, order=found.order)
        print(f"| {name} | " + " | ".join(cells) + " |", flush=True)
    print("| median of the ratio |" + "".join(f" {np.median(r):.2f} |" for r in ratios.values()))
    within = [np.mean([0.5 <= r <= 2.0 for r in some]) for some in ratios.values()]
    print("| share from 0.5 to 2 |" + "".join(f" {w:.0%} |" for w in within))


def varies(quick, results):
    shape, rng = (420, 420), np.random.default_rng(3)
    psf_at = changing(shape)
    nodes = np.linspace(28, 391, 6)
    x, y = (g.ravel() + rng.uniform(-2, 2, 36) for g in np.meshgrid(nodes, nodes))
    data = draw(psf_at, np.stack([x, y, 10 ** rng.uniform(1.7, 2.4, 36), np.zeros(36)], axis=1), shape, rng)
    places = {"centre": (209.5, 209.5), "lower left": (0, 0), "lower right": (419, 0), "upper right": (419, 419)}
    print("| order | error, stated | true, mean | " + " | ".join(f"{p}: FWHM, ellipticity" for p in places), end=" | ")
    print("stars deconvolved, FWHM |\n" + "|---" * (4 + len(places)) + "|")
    for order in (0, "auto"):
        psf = measure_psf(data, 0.0, 1.0, order=order).psf
        true = float(np.mean([distance(psf, psf_at, *place) for place in places.values()]))
        cells = []
        for place in places.values():
            own = psf.fine(SAMPLING, position=place) if psf.varies else psf.fine(SAMPLING)
            own, told = effective_shape(own), effective_shape(psf_at(*place))
            cells.append(f"{own[0]:.2f}, {own[1]:.3f} (true {told[0]:.2f}, {told[1]:.3f})")
        widths = (
            None if quick else _widths(deconvolve(data, psf, noise=np.ones(shape), tile=TILE, progress=False), x, y)
        )
        sharp = "-" if widths is None else f"{np.median(widths):.2f}, {widths.min():.2f} to {widths.max():.2f}"
        results.note(f"psf/varies/order {order}", stated=psf.error, true=true)
        print(f"| {order} | {psf.error:.3f} | {true:.3f} | " + " | ".join(cells) + f" | {sharp} |", flush=True)


def _widths(result, x, y):
    from deconjugate.astro.shape import fwhm_pix

    image, u = result.image.data, result.image.data.shape[0] // 420
    middles = [(round(u * (b + 0.5) - 0.5), round(u * (a + 0.5) - 0.5)) for a, b in zip(x, y)]
    return np.array([fwhm_pix(image[r - 9 : r + 10, c - 9 : c + 10]) for r, c in middles])


def scene_of_errors():
    """A galaxy and five stars of very different brightness."""
    sky = np.zeros((192, 256), np.float32)
    galaxy = parametric_galaxy(np.random.default_rng(5), radius=11.0)
    h, w = galaxy.shape
    sky[96 - h // 2 : 96 - h // 2 + h, 92 - w // 2 : 92 - w // 2 + w] = galaxy
    for row, column, flux in ((40, 210, 60.0), (100, 200, 20.0), (150, 215, 6.0), (165, 60, 20.0), (60, 176, 2.0)):
        sky[row, column] += flux
    return simulate(sky, PSF.moffat(3.5), upsample=2, peak_snr=200, seed=3)


def errors(draw, widths, kept):
    scene = scene_of_errors()
    stars = [(40, 210), (100, 200), (150, 215), (165, 60)]
    light = np.s_[46:146, 42:142]
    results = {}
    head = (
        "width of the PSF",
        "error in light",
        "squared error",
        "galaxy alone",
        "its flux",
        "reduced chi2",
        "residual at stars",
    )
    print("| " + " | ".join(head) + " |\n" + "|---" * len(head) + "|")
    for wrong in widths:
        psf = PSF.moffat(3.5 * (1.0 + wrong))
        result = deconvolve(scene.data, psf, noise=scene.noise_map, progress=False)
        results[wrong] = result
        flux = result.image.data[light].sum() / scene.truth[light].sum()
        around = [np.abs(result.residual[r // 2 - 3 : r // 2 + 4, c // 2 - 3 : c // 2 + 4]).max() for r, c in stars]
        error, whole = difference(psf, PSF.moffat(3.5)), nmse(result.image.data, scene.truth)
        galaxy = nmse(result.image.data[light], scene.truth[light])
        kept.note(f"psf/width {wrong:+.0%}", error=error, nmse=whole, galaxy_nmse=galaxy, flux=flux)
        print(f"| {wrong:+.0%} | {error:.3f} | {whole:.4f} | {galaxy:.4f} | {flux:.3f} |", end="")
        print(f" {result.reduced_chi2:.3f} | up to {max(around):.1f} sigma |", flush=True)
    if draw:
        _draw(draw, scene, results)


def _draw(path, scene, results):
    from matplotlib.figure import Figure

    from deconjugate.astro.qa import stretch

    figure = Figure(figsize=(13.0, 4.6), layout="constrained")
    axes = figure.subplots(2, len(DRAWN))
    sigma = float(scene.noise_map.flat[0])
    for column, wrong in enumerate(DRAWN):
        image, residual = results[wrong].image.data, results[wrong].residual
        top = np.percentile(scene.truth, 99.7)
        axes[0, column].imshow(stretch(image, 0.5 * sigma, top), origin="lower", cmap="gray", interpolation="nearest")
        axes[0, column].set_title(
            "right PSF" if not wrong else f"{abs(wrong):.0%} too {'narrow' if wrong < 0 else 'wide'}"
        )
        axes[1, column].imshow(residual, origin="lower", cmap="RdBu_r", vmin=-5, vmax=5, interpolation="nearest")
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
    axes[0, 0].set_ylabel("deconvolved")
    axes[1, 0].set_ylabel("residual, -5 to 5 sigma")
    figure.savefig(path, dpi=64)
    print(path)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("section", nargs="?", choices=("measured", "stated", "varies", "errors", "all"), default="all")
    parser.add_argument("--quick", action="store_true", help="one field, one setting of the peer, three widths")
    parser.add_argument("--without-peers", action="store_true")
    parser.add_argument("--draw", metavar="PNG", help="a picture of what errors do")
    args = parser.parse_args()
    torch.set_num_threads(1)
    results = begin(quick=args.quick, packages=("operators", "solver", "astro"))
    print()
    if args.section in ("measured", "all"):
        measured(args.quick, not args.without_peers, results)
    if args.section in ("stated", "all"):
        print()
        stated(args.quick, results)
    if args.section in ("varies", "all"):
        print()
        varies(args.quick, results)
    if args.section in ("errors", "all"):
        print()
        errors(args.draw, (-0.1, 0.0, 0.1) if args.quick and not args.draw else WIDTHS, results)


if __name__ == "__main__":
    main()
