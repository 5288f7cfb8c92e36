"""The options that name a PSF, of every command that needs one."""

from deconjugate.astro.commands import values


def add_psf_options(group):
    """Add them to a group of a parser; those that take a value for each of several images."""
    add = group.add_argument
    psf = add(
        "--psf",
        nargs=1,
        metavar="FILE",
        help="FITS image of any sampling, what `deconjugate psf` wrote, or a PSFEx model (.psf)",
    )
    add(
        "--psf-oversampling",
        type=values.positive,
        metavar="Q",
        help="samples of the PSF image per pixel (default: OVERSAMP, else by PIXSCALE or WCS of both, else 1)",
    )
    add(
        "--psf-ext",
        metavar="EXT",
        help="extension of the PSF file, where it holds several: the chip (default "
        "with --all-ext: the n-th chip for the n-th image)",
    )
    width = {"nargs": 1, "type": values.positive}
    fwhm = add("--fwhm", **width, metavar="ARCSEC", help="Moffat of this width, as stars show it in the image")
    fwhm_pix = add("--fwhm-pix", **width, metavar="PIXELS", help="the same in pixels, for an image without WCS")
    add("--beta", type=values.above_one, metavar="B", help="exponent of the Moffat, above 1 (default 3)")
    add("--ellipticity", type=values.fraction, metavar="E", help="of the Moffat, 1 - minor / major axis (default 0)")
    add("--pa", type=values.finite, metavar="DEG", help="of its major axis, from +x towards +y (default 0)")
    add(
        "--psf-error",
        type=values.fraction,
        default=0.0,
        metavar="F",
        help="its relative error, say 0.02: keeps bright stars from being fitted beyond it (default 0)",
    )
    return psf, fwhm, fwhm_pix


def check_psf_usage(args):
    """Stop unless one PSF is named, with options that belong to it."""
    given = [name for name in ("psf", "fwhm", "fwhm_pix") if getattr(args, name) is not None]
    if len(given) != 1:
        args.usage("give the PSF by one of --psf, --fwhm and --fwhm-pix")
    for name in ("beta", "ellipticity", "pa"):
        if getattr(args, name) is not None and args.psf is not None:
            args.usage(f"--{name} belongs to --fwhm or --fwhm-pix, not to --psf")
    for name in ("psf_oversampling", "psf_ext"):
        if getattr(args, name) is not None and args.psf is None:
            args.usage(f"--{name.replace('_', '-')} belongs to --psf")


def check_psf_count(args, count):
    """Stop unless one is given for all of so many images, or one for each."""
    for name in ("psf", "fwhm", "fwhm_pix"):
        given = getattr(args, name) or []
        if len(given) not in (0, 1, count):
            option = f"--{name.replace('_', '-')}"
            args.usage(f"{option} has {len(given)} values for {count} images: give one, or one for each in order")


def psf_options(args, number):
    """Fields of :class:`deconjugate.astro.file_options.FileOptions` for the image of this number."""
    psf, fwhm, fwhm_pix = (
        given and given[number if len(given) > 1 else 0] for given in (args.psf, args.fwhm, args.fwhm_pix)
    )
    return {
        "psf": psf,
        "psf_oversampling": args.psf_oversampling,
        "psf_ext": args.psf_ext,
        "psf_error": args.psf_error,
        "fwhm_arcsec": fwhm,
        "fwhm_pix": fwhm_pix,
        "beta": 3.0 if args.beta is None else args.beta,
        "ellipticity": args.ellipticity or 0.0,
        "pa": args.pa or 0.0,
    }
