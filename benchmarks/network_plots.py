"""The pictures of the network's tables."""

import numpy as np
from network_views import views

from deconjugate.astro import deconvolve
from deconjugate.astro.metrics import flux_error


def plots(args):
    """Two pictures: twelve galaxies through the steps, and resolution against flux error by method."""
    from matplotlib.figure import Figure

    args.output.mkdir(parents=True, exist_ok=True)
    rows = 3 if args.quick else 12
    args.step = 17 if args.quick else 4  # of the three bands of each galaxy never the same twice
    names = ("data", "Tikhonov", "network", "corrected", "truth", "residual (sigma)")
    figure = Figure(figsize=(9.6, 1.6 * rows), layout="constrained", facecolor="black")
    axes = figure.subplots(rows, len(names))
    for axis, name in zip(axes[0], names):
        axis.set_title(name, color="white", fontsize=10)
    marks = {}
    for row, (psf, scene) in zip(axes, views(args, "moffat", 2, 50)):
        learned = deconvolve(scene.data, psf, noise=scene.noise_map, network=args.weights, device="cpu")
        classical = deconvolve(scene.data, psf, noise=scene.noise_map, network=None)
        top = float(scene.truth.max())
        pictures = [np.repeat(np.repeat(scene.data, 2, 0), 2, 1) / 4, *learned.stages.values(), scene.truth]
        for axis, picture, name in zip(row, [*pictures, learned.residual], names):
            if name.startswith("residual"):
                axis.imshow(picture, vmin=-4, vmax=4, cmap="gray", origin="lower")
            else:
                shown = np.arcsinh(picture / (0.02 * top))
                axis.imshow(shown, vmin=0, vmax=np.arcsinh(50), cmap="magma", origin="lower")
            axis.set_axis_off()
        for name, image in {
            "no deconvolution": pictures[0],
            "Tikhonov": learned.stages["tikhonov"],
            "classical path": classical.image.data,
            "network alone": learned.stages["network"],
            "network, corrected": learned.image.data,
        }.items():
            seen = scene.truth > 0.05 * top
            width = second_moment_width(image, seen) / second_moment_width(scene.truth, seen)
            marks.setdefault(name, []).append((width, 100 * flux_error(image, scene.truth)))
    figure.savefig(args.output / "network-galaxies.jpg", dpi=80)
    figure = Figure(figsize=(6.4, 4.6), layout="constrained")
    axis = figure.subplots()
    for name, points in marks.items():
        axis.plot(*np.transpose(points), "o", ms=4, label=name, alpha=0.8)
    axis.axhline(0, color="0.7", lw=1)
    axis.axvline(1, color="0.7", lw=1)
    axis.set(xlabel="width over that of the truth", ylabel="flux error (%)", ylim=(-12, 12))
    axis.legend(fontsize=8)
    figure.savefig(args.output / "network-flux.png", dpi=100)


def second_moment_width(image, where):
    """Root of the second moment of the light in the pixels of ``where`` around its middle."""
    rows, columns = np.nonzero(where)
    light = np.maximum(image[where], 0.0)
    middle = [np.average(x, weights=light) for x in (rows, columns)]
    return np.sqrt(np.average((rows - middle[0]) ** 2 + (columns - middle[1]) ** 2, weights=light))
