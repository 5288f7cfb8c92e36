"""A contact sheet of sources of the real frames: data, Richardson-Lucy, ours, and what remains unexplained."""

import numpy as np
from real_frames import lucy_of_skimage

SOURCES = [  # frame, row, column, half of the side: native pixels
    ("cfhtls", 165, 191, 40), ("cfhtls", 226, 222, 26), ("cfhtls", 270, 162, 22), ("decam", 153, 65, 30),
    ("decam", 345, 313, 22), ("decam", 285, 400, 30), ("decam", 465, 60, 30), ("hsc_gal1", 50, 74, 34),
    ("hsc_gal1_masked", 50, 74, 34), ("hsc_gal2", 64, 64, 34), ("m13", 150, 160, 30), ("m13", 228, 36, 24),
]  # fmt: skip
SOFTENING, LOW, RESIDUAL = 3.0, -2.0, 5.0  # sigmas


def stretched(values, sigma, top):
    """asinh from -2 sigma (0) to the top (1): linear near the sky, logarithmic above."""
    low = LOW * sigma
    scaled = np.arcsinh((values - low) / (SOFTENING * sigma)) / np.arcsinh((top - low) / (SOFTENING * sigma))
    return np.clip(np.nan_to_num(scaled), 0.0, 1.0)


def sheet(path, outcomes, sources=SOURCES):
    """Draw the sources of the frames that are there.

    Parameters
    ----------
    path : str or path
        PNG to write.
    outcomes : dict of dict of real_frames.Outcome
        By frame and guess, "network" and "classical".
    """
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    sources = [source for source in sources if source[0] in outcomes]
    guesses = list(dict.fromkeys(name for by_guess in outcomes.values() for name in by_guess))
    titles = ["data", "RL, 20 steps", *guesses, *(f"residual, {name}" for name in guesses)]
    figure, axes = plt.subplots(len(sources), len(titles), squeeze=False, layout="constrained",
                                figsize=(2.6 * len(titles), 2.75 * len(sources)))  # fmt: skip
    lucy = {}
    for cells, (name, row, column, half) in zip(axes, sources):
        by_guess = outcomes[name]
        one = next(iter(by_guess.values()))
        u, sigma = one.upsample, float(np.median(one.sigma))
        if name not in lucy:
            lucy[name] = lucy_of_skimage(one.data, one.psf, u)
        native = tuple(slice(max(p - half, 0), p + half) for p in (row, column))
        fine = tuple(slice(u * s.start, u * s.stop) for s in native)
        top = max(float(np.nanpercentile(one.data[native], 99.8)), 20.0 * sigma)
        pictures = [stretched(one.data[native], sigma, top), stretched(u**2 * lucy[name][fine], sigma, 2.0 * top)]
        pictures += [stretched(u**2 * by_guess[g].image[fine], sigma, 2.0 * top) for g in guesses]
        for cell, picture in zip(cells, pictures):
            cell.imshow(picture, origin="lower", cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        for cell, g in zip(cells[len(pictures) :], guesses):
            shown = np.where(by_guess[g].bad, np.nan, by_guess[g].residual)[native]
            cell.imshow(shown, origin="lower", cmap="RdBu_r", vmin=-RESIDUAL, vmax=RESIDUAL, interpolation="nearest")
            cell.set_facecolor("yellowgreen")
        for cell, title in zip(cells, titles):
            said = title
            if title in guesses:
                said = f"{title}, chi2 {by_guess[title].entry['reduced_chi2']:.2f}"
            elif title == "data":
                said = f"{name} ({row}, {column})"
            cell.set_title(said, fontsize=8)
            cell.set_xticks([])
            cell.set_yticks([])
    figure.savefig(path, dpi=70)
    plt.close(figure)
