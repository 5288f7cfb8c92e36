"""``deconjugate deconvolve``: a FITS image sharpened to a known PSF on a finer grid."""

import os
import sys

from deconjugate.astro.commands import values


def add_to(commands):
    """Add the command to the subparsers."""
    command = commands.add_parser(
        "deconvolve",
        help="sharpen a FITS image to a known PSF on a finer grid",
        description="Deconvolve a FITS image to a Gaussian PSF of 2 fine pixels, N of which make a pixel of the image. "
        "Counts are conserved, sky positions stay. The output holds SCI, ERR and MASK where there are such, RESIDUAL "
        "(in sigmas) and PSF, then the other extensions of the input.",
    )
    command.set_defaults(run=run, usage=command.error)
    add = command.add_argument
    add("image", metavar="IMAGE.fits")
    add("-o", "--output", metavar="OUT.fits", help="default: IMAGE_deconvolved.fits in the current folder")
    add("--overwrite", action="store_true", help="replace outputs that exist")
    psf = command.add_argument_group("point spread function (one of the first three)")
    psf.add_argument("--psf", metavar="FILE", help="FITS image at the image's sampling, or a PSFEx model (.psf)")
    psf.add_argument(
        "--fwhm", type=values.positive, metavar="ARCSEC", help="Moffat of this width, as stars show it in the image"
    )
    psf.add_argument(
        "--fwhm-pix", type=values.positive, metavar="PIXELS", help="the same in pixels, for an image without WCS"
    )
    psf.add_argument("--beta", type=values.above_one, metavar="B", help="exponent of the Moffat, above 1 (default 3)")
    psf.add_argument(
        "--psf-error",
        type=values.fraction,
        default=0.0,
        metavar="F",
        help="its relative error, say 0.02: keeps bright stars from being fitted beyond it (default 0)",
    )
    data = command.add_argument_group("input")
    data.add_argument(
        "--ext", metavar="EXT", help="image extension, name or number (default: first 2-D image, SCI first)"
    )
    data.add_argument("--noise", metavar="EXT|FILE", help="noise per pixel (default: measured from the sky)")
    data.add_argument(
        "--noise-type", choices=("rms", "variance", "weight"), help="what it holds (default: as it is named)"
    )
    data.add_argument(
        "--gain", type=values.positive, help="electrons per count: adds the sources' shot noise to a measured noise"
    )
    data.add_argument("--mask", metavar="EXT|FILE", help="bad pixels, not zero")
    data.add_argument(
        "--saturation",
        type=values.positive,
        metavar="LEVEL",
        help="pixels at or above this are bad (default: SATURATE)",
    )
    data.add_argument(
        "--sky",
        choices=("map", "flat", "none"),
        default="map",
        help="measured in boxes (default), as one number, or not there",
    )
    method = command.add_argument_group("method")
    method.add_argument(
        "--upsample", type=values.count, default=2, metavar="N", help="fine pixels per pixel (default 2)"
    )
    method.add_argument(
        "--k-sigma", type=values.positive, default=3.0, metavar="K", help="significance of detail (default 3)"
    )
    guess = method.add_mutually_exclusive_group()
    guess.add_argument("--network", metavar="FILE", help="weights of another network (default: the one that ships)")
    guess.add_argument("--no-network", action="store_true", help="classical method alone")
    method.add_argument(
        "--uncertainty",
        type=values.realisations,
        metavar="N",
        help="also estimate the standard deviation of every pixel (extension ERR), from N realisations of the noise",
    )
    method.add_argument("--device", default="auto", help="auto, cpu or cuda (default auto)")
    method.add_argument("--tile", type=values.count, metavar="N", help="side of the tiles of a large frame, in pixels")
    report = command.add_argument_group("reports")
    report.add_argument("--qa", metavar="QA.png", help="page of pictures that shows what was done (png, pdf or svg)")
    report.add_argument("--quiet", action="store_true", help="no summary, no progress bar")
    report.add_argument("--debug", action="store_true", help="show the full traceback of an error")


def run(args):
    """Do what the arguments ask for."""
    given = [name for name in ("psf", "fwhm", "fwhm_pix") if getattr(args, name) is not None]
    if len(given) != 1:
        args.usage("give the PSF by one of --psf, --fwhm and --fwhm-pix")
    if args.beta is not None and args.psf is not None:
        args.usage("--beta belongs to --fwhm or --fwhm-pix, not to --psf")
    if args.noise_type is not None and args.noise is None:
        args.usage("--noise-type belongs to --noise")
    if args.gain is not None and args.noise is not None:
        args.usage("--gain belongs to a measured noise, not to --noise, which holds everything")
    stem = os.path.basename(args.image).split(".fit")[0].removesuffix(".fz")
    if args.output is None:
        args.output = f"{stem}_deconvolved.fits"

    from deconjugate.astro.deconvolve_file import deconvolve_file

    result = deconvolve_file(
        args.image,
        args.output,
        psf=args.psf,
        fwhm_arcsec=args.fwhm,
        fwhm_pix=args.fwhm_pix,
        beta=3.0 if args.beta is None else args.beta,
        ext=args.ext,
        noise=args.noise,
        noise_kind=args.noise_type,
        gain=args.gain,
        psf_error=args.psf_error,
        mask=args.mask,
        saturation=args.saturation,
        sky=args.sky,
        upsample=args.upsample,
        qa=args.qa,
        overwrite=args.overwrite,
        k_sigma=args.k_sigma,
        network=None if args.no_network else (args.network or "default"),
        uncertainty=args.uncertainty,
        device=args.device,
        tile=args.tile,
        progress=not args.quiet and sys.stderr.isatty(),
    )
    if not args.quiet:
        height, width = result.image.shape
        print(
            f"{args.output}: {width} x {height} pixels, reduced chi2 {result.reduced_chi2:.3f}, "
            f"flux ratio {result.flux_ratio:.5f}, {sum(result.timings.values()):.1f} s"
        )
