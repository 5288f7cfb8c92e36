"""How many clumps of deconvolved files are found, by putting some into the images that they were made from."""

import os
from importlib.metadata import version

import numpy as np

from deconjugate.astro.atomic import write_atomically
from deconjugate.astro.clump_completeness import Completeness, clump_completeness
from deconjugate.astro.file_options import FileOptions
from deconjugate.astro.fits import read_image
from deconjugate.astro.preparation import prepare

ONE_SIGMA = 1.0  # of the interval of a fraction


def completeness_files(paths, images, psfs, *, shares, trials, ext=None, network="default", seed=0, find=(), **given):
    """Put clumps into the images of several deconvolved files; what ``deconjugate clumps --completeness`` does.

    Upsampling, significance of detail and the extension of the image are those that the deconvolved file names.

    Parameters
    ----------
    paths : list of str or path
        What ``deconjugate deconvolve`` wrote.
    images : list of str or path
        What each was made from.
    psfs : list of dict
        For each, the PSF and its options among the fields of :class:`deconjugate.astro.file_options.FileOptions`.
    shares, trials, network, seed
        See :func:`deconjugate.astro.clump_completeness.clump_completeness`.
    ext : int or str, optional
        Of the deconvolved files.
    find : dict
        ``min_snr`` and ``min_share`` of :func:`deconjugate.astro.clumps.find_clumps`.
    **given
        Further fields of :class:`deconjugate.astro.file_options.FileOptions`: noise, mask, sky.

    Returns
    -------
    deconjugate.astro.clump_completeness.Completeness
        Of all files together.

    Raises
    ------
    OSError, KeyError, ValueError
        See :func:`deconjugate.astro.preparation.prepare` and
        :func:`deconjugate.astro.clump_completeness.clump_completeness`; another number of images than of files; a file
        that does not say how it was made, or a PSF that is not the one it was made with.
    """
    if len(images) != len(paths):
        raise ValueError(
            f"completeness names {len(images)} images for {len(paths)} files: give what each was made from"
        )
    shares, all_found = np.asarray(shares, dtype=float), []
    for path, image, psf in zip(paths, images, psfs):
        cards = read_image(path, ext=ext).meta
        if "UPSAMPLE" not in cards or "KSIGMA" not in cards:
            raise ValueError(
                f"{path} does not say how it was made (UPSAMPLE, KSIGMA), as `deconjugate deconvolve` does"
            )
        options = FileOptions(**psf, **given, gain="header", ext=_source(cards), upsample=int(cards["UPSAMPLE"]))
        prepared = prepare(image, options.ext, None, options)
        _check_width(path, cards, prepared)
        one = clump_completeness(
            prepared.sources.data,
            prepared.psf,
            prepared.sigma,
            mask=prepared.image.mask,
            upsample=options.upsample,
            k_sigma=float(cards["KSIGMA"]),
            shares=shares,
            trials=trials,
            network=network,
            seed=seed,
            **dict(find),
        )
        all_found.append(one)
    ratios = [[ratio for one in all_found for ratio in one.ratios[k]] for k in range(len(shares))]
    return Completeness(shares, sum(one.injected for one in all_found), ratios)


def completeness_table(found, **meta):
    """A row for each brightness: put in, found, their ratio with its one-sigma interval, measured over true flux.

    Source
    ------
    E. B. Wilson, J. Am. Stat. Assoc. 22, 209 (1927), for the interval: it holds where all or none are found.

    Example
    -------
    >>> import numpy as np
    >>> table = completeness_table(Completeness(np.array([0.02, 0.1]), np.array([4, 4]), [[0.9], [1.0] * 4]))
    >>> table["fraction"].tolist(), table["fraction_low"].round(2).tolist(), table["fraction_high"].round(2).tolist()
    ([0.25, 1.0], [0.1, 0.8], [0.5, 1.0])
    """
    from astropy.table import Table

    n, p, z2 = np.maximum(found.injected, 1), found.fraction, ONE_SIGMA**2
    middle = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = ONE_SIGMA * np.sqrt(p * (1 - p) / n + z2 / (4 * n**2)) / (1 + z2 / n)
    table = Table(
        [found.shares, found.injected, found.found, p, middle - half, np.minimum(middle + half, 1.0), found.flux_ratio],
        names=["share", "injected", "found", "fraction", "fraction_low", "fraction_high", "flux_ratio"],
    )
    table.meta.update({"made_by": f"deconjugate {version('deconjugate')}", **meta})
    return table


def completeness_name(output):
    """The name of the table, beside that of the clumps."""
    return f"{os.path.splitext(os.fspath(output))[0]}_completeness.ecsv"


def write_completeness(output, table, overwrite):
    """Write the table beside that of the clumps."""
    write_atomically(
        completeness_name(output),
        lambda temporary: table.write(temporary, format="ascii.ecsv", overwrite=True),
        overwrite=overwrite,
    )


def _source(cards):
    """The extension of the input that a file was made from: SRCEXT, by number where it had no name."""
    name = cards.get("SRCEXT")
    return None if name is None else str(name)


def _check_width(path, cards, prepared):
    width, said = float(prepared.psf.fwhm_pix), float(cards.get("INFWHM", prepared.psf.fwhm_pix))
    if abs(width / said - 1.0) > 0.01:
        raise ValueError(
            f"the PSF has a FWHM of {width:.3f} pixels, that which {path} was made with {said:.3f} (INFWHM): give the "
            "PSF that was given to `deconvolve`"
        )
