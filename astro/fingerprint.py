"""What a result was made from, in one number: the same again need not be made again."""

import hashlib
import json
import os


def fingerprint(path, options):
    """A digest of the version, the options that decide on the pixels, and the content of every file that is read.

    Parameters
    ----------
    path : str or path
        The image.
    options : deconjugate.astro.file_options.FileOptions

    Returns
    -------
    str or None
        32 hexadecimal digits; None where the PSF is not a file or a profile, and so cannot be told from another.
    """
    from importlib.metadata import version

    from deconjugate.astro.guess import WEIGHTS

    chosen = options.of_the_result()
    if options.psf is not None and not isinstance(options.psf, str | os.PathLike):
        return None
    network = chosen.get("network", "default")
    files = [path, options.psf, options.noise, options.mask, WEIGHTS if network == "default" else network]
    contents = [_digest(str(file)) for file in files if file is not None and os.path.isfile(str(file))]
    # Of a file, what it holds counts and not where it lies.
    chosen = {name: os.path.basename(str(value)) for name, value in sorted(chosen.items())}
    text = json.dumps([version("deconjugate"), chosen, contents])
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def is_done(path, output, options):
    """Whether the output is there, whole, and made from just this."""
    key = made_from(output)
    return key is not None and key == fingerprint(path, options)


def made_from(output):
    """The digest that an output holds; None where it is not there, not whole, or of other software."""
    from deconjugate.astro.hdus import open_fits

    if not os.path.exists(output):
        return None
    try:
        with open_fits(output) as hdus:
            return hdus[1].header.get("DCKEY") if len(hdus) > 1 else None
    except OSError:
        return None


def _digest(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
