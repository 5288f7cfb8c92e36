"""Galaxies with their clumps, and the number of clumps against the colour of the disc."""

import numpy as np

from deconjugate.astro.atomic import write_atomically
from deconjugate.astro.qa import stretch


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
    top = np.nanpercentile(light, 99.8) or 1.0
    left.imshow(stretch(light, 0.01 * top, top), origin="lower", cmap="gray_r", interpolation="nearest")
    for galaxy in galaxies:
        left.contour(galaxy.outline, levels=[0.5], colors="tab:blue", linewidths=0.7)
        places = np.array([(clump.x, clump.y) for clump in galaxy.clumps]).reshape(-1, 2)
        left.plot(*places.T, "o", mfc="none", color="tab:red", markersize=8)
    left.set(xticks=[], yticks=[], title=f"{len(galaxies)} galaxies, {sum(table['n_clumps'])} clumps")
    if "disc_colour" in table.colnames:
        right.plot(table["disc_colour"], table["n_clumps"], "o")
        right.set(xlabel=f"colour of the disc, {table.meta['colour']}", ylabel="clumps")
    else:
        counts = np.bincount(np.asarray(table["n_clumps"], dtype=int))
        right.bar(np.arange(len(counts)), counts)
        right.set(xlabel="clumps", ylabel="galaxies")
    figure.suptitle(title)
    ending = str(path).rsplit(".", 1)[-1].lower()
    write_atomically(path, lambda temporary: figure.savefig(temporary, format=ending, dpi=100), overwrite=overwrite)
