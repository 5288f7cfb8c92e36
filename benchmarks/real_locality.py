"""Part locality: what one star does to a galaxy far away."""

import numpy as np
from real_measures import squared_error
from real_scenes import BETA, BOX, FEW, FWHM, STAR, STARS, lonely_galaxy, star
from tables import row, table

from deconjugate.astro import PSF, deconvolve

ASKED = {"35 FWHM": 1.10, "10 FWHM": 1.25}


def locality(args):
    """The squared error of a galaxy of peak SNR 40 with a star over that without; PSF and noise are exact."""
    psf = PSF.moffat(FWHM, beta=BETA)
    kinds = ["disc"] if args.quick else ["disc", 3, 40]
    table("galaxy", "distance", "star, sigmas", "clipped at", "what", "guess", "chi2", "lambda", "replaced",
          "squared error", "over no star", "flux / truth")  # fmt: skip
    worst = {}
    for kind in kinds:
        stars = FEW if args.quick or kind != "disc" else STARS
        data, truth = lonely_galaxy(kind, args.half)
        for name, network in args.networks.items():
            without = deconvolve(data, psf, noise=1.0, network=network)
            for distance, place in STAR.items():
                box = BOX[distance]
                reference = squared_error(without.image.data, truth, box)
                line(args, (kind, distance, 0, 1.0, "", name), without, truth, box, reference)
                for peak, clip, what in stars:
                    result = deconvolve(data + star(peak, clip, what, place), psf, noise=1.0, network=network)
                    ratio = line(args, (kind, distance, peak, clip, what, name), result, truth, box, reference)
                    worst[distance, name] = max(
                        worst.get((distance, name), (0, "")), (ratio, f"{kind}, {peak}, {clip} {what}")
                    )
    table("distance", "guess", "asked", "worst ratio", "of galaxy, star")
    for (distance, name), (ratio, which) in worst.items():
        args.results.note(f"real/locality worst, {distance}, {name}", ratio=ratio, case=which)
        row(distance, name, ASKED[distance], f"{ratio:.2f}", which)


def line(args, case, result, truth, box, reference):
    kind, distance, peak, clip, what, name = case
    image = result.image.data
    error = squared_error(image, truth, box)
    flux = float(image[box].sum() / truth[box].sum())
    row(kind, distance, peak, clip, what, name, f"{result.reduced_chi2:.3g}", f"{result.regularization:.1e}",
        f"{np.mean(result.replaced):.0f}", f"{error:.4f}", f"{error / reference:.2f}", f"{flux:.3f}")  # fmt: skip
    args.results.note(f"real/locality, {', '.join(map(str, case))}", error=error, ratio=error / reference,
                      flux=flux, reduced_chi2=result.reduced_chi2)  # fmt: skip
    return error / reference
