"""``deconjugate psf``: the PSF of an image, measured on its stars."""

import argparse

from deconjugate.astro.commands import values


def add_to(commands):
    """Add the command to the subparsers."""
    command = commands.add_parser(
        "psf",
        help="measure the PSF of a FITS image on its stars",
        description="Find the stars of a FITS image that are bright, alone and unsaturated, and build their effective "
        "PSF; one or two stars give an elliptical Moffat. The output holds the PSF and its error, which `deconvolve "
        "--psf` takes, a PSFEx model where it varies over the frame, the table STARS, and RESIDUAL, what is left of "
        "the stars on average.",
    )
    command.set_defaults(run=run, usage=command.error)
    add = command.add_argument
    add("image", metavar="IMAGE.fits")
    add("-o", "--output", metavar="PSF.fits", required=True)
    add("--overwrite", action="store_true", help="replace outputs that exist")
    data = command.add_argument_group("input")
    data.add_argument("--ext", metavar="EXT", help="image extension, name or number (default: SCI, or the first image)")
    data.add_argument("--plane", type=_plane, metavar="N", help="of a cube, the plane of this number, from 0")
    data.add_argument("--noise", metavar="EXT|FILE", help="noise per pixel (default: measured from the sky)")
    data.add_argument(
        "--noise-type", choices=("rms", "variance", "ivar", "weight"), help="what it holds (default: as it is named)"
    )
    data.add_argument("--gain", type=values.positive, help="electrons per count: adds the stars' shot noise")
    data.add_argument("--mask", metavar="EXT|FILE", help="bad pixels, not zero")
    data.add_argument(
        "--saturation", type=values.positive, metavar="LEVEL", help="leave out stars that reach it (default: SATURATE)"
    )
    data.add_argument(
        "--sky", choices=("map", "flat", "none"), default="map", help="measured in boxes (default), as one number, none"
    )
    stars = command.add_argument_group("stars")
    stars.add_argument(
        "--min-snr", type=values.positive, default=30.0, metavar="S", help="least peak over noise (default 30)"
    )
    stars.add_argument(
        "--max-stars", type=values.count, default=100, metavar="N", help="the brightest so many (default 100)"
    )
    stars.add_argument(
        "--oversampling", type=values.count, metavar="Q", help="samples per pixel (default: as many as make 5 a FWHM)"
    )
    stars.add_argument(
        "--order",
        type=_order,
        default="auto",
        metavar="0|1|2|auto",
        help="of the polynomial in the position that the PSF follows over the frame (default: the lowest that explains "
        "stars left out of the fit)",
    )
    report = command.add_argument_group("reports")
    report.add_argument("--qa", metavar="QA.png", help="page of pictures of stars and PSF (png, pdf or svg)")
    report.add_argument("--quiet", action="store_true", help="no summary")
    report.add_argument("--debug", action="store_true", help="show the full traceback of an error")


def run(args):
    """Do what the arguments ask for."""
    if args.noise_type is not None and args.noise is None:
        args.usage("--noise-type belongs to --noise")

    from deconjugate.astro.star_psf_file import measure_psf_file

    measured, scale = measure_psf_file(
        args.image,
        args.output,
        ext=args.ext,
        plane=args.plane,
        noise=args.noise,
        noise_kind=args.noise_type,
        mask=args.mask,
        saturation=args.saturation,
        sky=args.sky,
        qa=args.qa,
        overwrite=args.overwrite,
        gain=args.gain,
        min_snr=args.min_snr,
        max_stars=args.max_stars,
        oversampling=args.oversampling,
        order=args.order,
    )
    if not args.quiet:
        print(f"{args.output}: {measured.summary(scale)}")


def _order(text):
    if text in ("0", "1", "2", "auto"):
        return text if text == "auto" else int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is not 0, 1, 2 or auto")


def _plane(text):
    if text.isdecimal():
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is not the number of a plane, from 0")
