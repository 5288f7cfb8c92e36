"""The clumps of many deconvolved files in one table."""

import os
import warnings

import numpy as np

from deconjugate.astro.clump_file import check_clump_outputs, measure_clumps, write_clump_tables


def clumps_files(paths, output, *, colour=None, figure=None, overwrite=False, **options):
    """Find the clumps of the galaxies in several deconvolved files; what ``deconjugate clumps`` does with several.

    The tables are those of :func:`deconjugate.astro.clump_file.clumps_file`, the rows of all files one below the other,
    told apart by the column ``file``. A file that cannot be measured does not stop the rest.

    Parameters
    ----------
    paths : list of str or path
    output : str or path
    colour : list of (path, path), optional
        A bluer and a redder band for each file, in order.
    figure : str or path, optional
        Where to draw how many clumps the galaxies of all files have, and their number against the colour of the disc.
    overwrite : bool
    **options
        ``ext``, ``noise``, ``seeing_arcsec``, ``sky``, ``min_snr`` and ``min_share``, of all files: see
        :func:`deconjugate.astro.clump_file.clumps_file`.

    Returns
    -------
    clumps, galaxies : astropy.table.Table
    failed : dict
        The exception of each file that could not be measured.

    Raises
    ------
    OSError, ValueError
        The tables or the figure cannot be written; colours for another number of files.
    Exception
        That of the first file, where none could be measured.

    Warns
    -----
    UserWarning
        The colours of some files are calibrated and those of others are not.
    """
    from astropy.table import vstack

    paths = list(paths)
    if colour is not None and len(colour) != len(paths):
        raise ValueError(f"colour holds {len(colour)} pairs of bands; there are {len(paths)} files: give one for each")
    check_clump_outputs(output, figure, overwrite)
    tables, failed = [], {}
    for path, bands in zip(paths, colour or [None] * len(paths)):
        try:
            both = measure_clumps(path, colour=bands, **options)[2:]
        except Exception as error:  # of whatever kind: the others are measured still
            failed[path] = error
            continue
        for table in both:
            table.add_column(np.array([str(path)] * len(table), dtype=str), name="file", index=0)
        tables.append(both)
    if not tables:
        raise next(iter(failed.values()))
    kinds = {galaxies.meta.get("colour") for _, galaxies in tables}
    if len(kinds) > 1:
        warnings.warn("some colours are calibrated and others instrumental: do not compare them", stacklevel=2)
    clumps, galaxies = (vstack(some, metadata_conflicts="silent") for some in zip(*tables))
    for table in (clumps, galaxies):
        table.meta["source"] = f"{len(tables)} files"
    if colour is not None:
        galaxies.meta["colour"] = kinds.pop() if len(kinds) == 1 else "blue - red, partly calibrated"
    write_clump_tables(output, clumps, galaxies, overwrite)
    if figure is not None:
        from deconjugate.astro.clump_figure import clump_numbers_figure

        title = f"{len(galaxies)} galaxies, {len(clumps)} clumps in {len(tables)} files"
        clump_numbers_figure(figure, galaxies, title=title, overwrite=overwrite)
    return clumps, galaxies, {os.fspath(path): error for path, error in failed.items()}
