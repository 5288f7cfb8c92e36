"""``deconjugate photometry``: fluxes before and after a deconvolution."""

from deconjugate.astro.commands import values


def add_to(commands):
    """Add the command to the subparsers."""
    command = commands.add_parser(
        "photometry",
        help="compare the fluxes of sources before and after a deconvolution",
        description="Measure the sources of an image in the image and in what `deconvolve` made of it, in equal "
        "apertures on the sky: total fluxes, their ratio and difference, and fluxes in circles.",
    )
    command.set_defaults(run=run, usage=command.error)
    add = command.add_argument
    add("image", metavar="IN.fits")
    add("deconvolved", metavar="OUT.fits")
    add("-o", "--output", metavar="TABLE.ecsv", required=True)
    add("--overwrite", action="store_true", help="replace an output that exists")
    add("--ext", metavar="EXT", help="extension of IN.fits, name or number (default: SCI, or the first image)")
    add("--noise", metavar="EXT|FILE", help="noise per pixel of IN.fits (default: measured from the sky)")
    add("--noise-type", choices=("rms", "variance", "ivar", "weight"), help="what it holds (default: as it is named)")
    add("--mask", metavar="EXT|FILE", help="bad pixels, not zero: left out of both")
    add(
        "--sky", choices=("map", "flat", "none"), default="map", help="measured in boxes (default), as one number, none"
    )
    add(
        "--aperture",
        type=values.positive,
        nargs="+",
        default=[],
        metavar="ARCSEC",
        help="radii of circles beside the total ellipse",
    )
    add("--aperture-pix", type=values.positive, nargs="+", default=[], metavar="PIXELS", help="the same in pixels")
    add("--positions", metavar="TABLE", help="sources by ra, dec or x, y (default: found in IN.fits)")
    add("--threshold", type=values.positive, default=3.0, metavar="S", help="sigmas of a source (default 3)")
    add(
        "--zero-point", type=values.finite, metavar="MAG", help="magnitude of one count (default: MAGZERO and the like)"
    )
    add("--quiet", action="store_true", help="no summary")
    add("--debug", action="store_true", help="show the full traceback of an error")


def run(args):
    """Do what the arguments ask for."""
    if args.noise_type is not None and args.noise is None:
        args.usage("--noise-type belongs to --noise")

    import numpy as np

    from deconjugate.astro.photometry_file import photometry_file

    table = photometry_file(
        args.image,
        args.deconvolved,
        args.output,
        ext=args.ext,
        noise=args.noise,
        noise_kind=args.noise_type,
        mask=args.mask,
        radii_arcsec=args.aperture,
        radii_pix=args.aperture_pix,
        positions=args.positions,
        zero=args.zero_point,
        threshold=args.threshold,
        sky=args.sky,
        overwrite=args.overwrite,
    )
    if args.quiet:
        return
    print(f"{args.output}: {len(table)} sources", end="")
    table = table[np.isfinite(table["ratio"])]
    if len(table):
        within = np.mean(np.abs(table["difference"]) < 1.0)
        total = np.sum(table["flux_after"]) / np.sum(table["flux_before"])
        print(f", total flux after / before {total:.4f}, median {np.median(table['ratio']):.4f}; ", end="")
        print(f"{within:.0%} within one sigma", end="")
    print()
