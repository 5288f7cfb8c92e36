"""Galaxies with their clumps, and the number of clumps against the colour of the disc, of one image or of many."""

import numpy as np

from deconjugate.astro.atomic import write_atomically
from deconjugate.astro.qa import stretch

SHOWN = 2048  # pixels a side of an image that is drawn whole


def clump_figure(path, light, galaxies, table, *, title="", overwrite=False):
    """Draw the image with outlines and clumps, and clumps per galaxy against disc colour (or how many have how many).

    Parameters
    ----------
    path : str or path
        Ends in .png, .pdf or .svg.
    light : (h, w) array
        Sky subtracted.
    galaxies : list of deconjugate.astro.clumps.Galaxy
    table : astropy.table.Table
        One row a galaxy, ``n_clumps`` and, where known, ``disc_colour``.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12.0, 5.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    seen = light[:: (step := -(-max(light.shape) // SHOWN)), ::step]
    top = np.nanpercentile(seen, 99.8) or 1.0
    extent = -0.5, seen.shape[1] * step - 0.5, -0.5, seen.shape[0] * step - 0.5
    how = {"origin": "lower", "cmap": "gray_r", "interpolation": "nearest", "extent": extent}
    left.imshow(stretch(seen, 0.01 * top, top), **how)
    for galaxy in galaxies:
        rows, columns = (np.arange(s.start, s.stop) for s in galaxy.box)
        left.contour(columns, rows, galaxy.within, levels=[0.5], colors="tab:blue", linewidths=0.7)
        places = np.array([(clump.x, clump.y) for clump in galaxy.clumps]).reshape(-1, 2)
        left.plot(*places.T, "o", mfc="none", color="tab:red", markersize=8)
    left.set(xticks=[], yticks=[], title=f"{len(galaxies)} galaxies, {sum(table['n_clumps'])} clumps")
    if "disc_colour" in table.colnames:
        _against_colour(right, table)
    else:
        _how_many(right, table)
    _save(figure, path, title, overwrite)


def clump_numbers_figure(path, table, *, title="", overwrite=False):
    """Draw how many galaxies have how many clumps and, where colours are known, the number against the disc's colour.

    Parameters
    ----------
    path, table
        As for :func:`clump_figure`, the galaxies of all files.
    """
    from matplotlib.figure import Figure

    coloured = "disc_colour" in table.colnames
    figure = Figure(figsize=(12.0 if coloured else 6.0, 5.6), layout="constrained")
    panels = figure.subplots(1, 1 + coloured, squeeze=False)[0]
    _how_many(panels[0], table)
    if coloured:
        _against_colour(panels[1], table)
    _save(figure, path, title, overwrite)


def _how_many(panel, table):
    counts = np.bincount(np.asarray(table["n_clumps"], dtype=int))
    panel.bar(np.arange(len(counts)), counts)
    panel.set(xlabel="clumps", ylabel="galaxies")


def _against_colour(panel, table):
    panel.plot(table["disc_colour"], table["n_clumps"], "o")
    panel.set(xlabel=f"colour of the disc, {table.meta['colour']}", ylabel="clumps")


def _save(figure, path, title, overwrite):
    figure.suptitle(title)
    ending = str(path).rsplit(".", 1)[-1].lower()
    write_atomically(path, lambda temporary: figure.savefig(temporary, format=ending, dpi=100), overwrite=overwrite)
