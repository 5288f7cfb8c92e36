"""Train the deconvolution network: ``python -m deconjugate.astro.train --data DIR --time-budget 100m --out FOLDER``.

DIR holds ``galaxies.npz``, sharp images on an empty sky by name, and ``psfs.npz``, effective PSFs at native sampling;
either may be absent. Validation scenes are drawn from ``held_out.npz`` where it is there, else from the same images.
``--collect FOLDER`` first writes all three: FOLDER/galaxies holds images of space telescopes, which are cleaned (see
deconjugate.astro.training_images), and FOLDER/psfex/train PSFEx models. ``--render PSFEX_FOLDER`` writes the PSFs
alone. Both take astropy; training itself takes numpy, scipy, numba, torch and safetensors alone.
"""

import argparse
import platform
from dataclasses import asdict
from pathlib import Path

import numpy as np

from deconjugate.solver.train import common_options, save, training_config

# What is trained by default on a processor, and where there is a GPU.
CONFIGURATIONS = {
    "small": {"embedding": 32, "depths": (2, 2, 2), "heads": (2, 4, 8)},
    "large": {"embedding": 64, "depths": (2, 4, 6), "heads": (4, 8, 16)},
}


def main(arguments=None):
    parser = argparse.ArgumentParser(
        prog="python -m deconjugate.astro.train",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    common_options(parser)
    parser.set_defaults(steps=20_000, learning_rate=1e-3, warmup=200, average=0.999)
    parser.add_argument("--data", type=Path, help="folder of galaxies.npz and psfs.npz; none: parametric galaxies")
    parser.add_argument("--render", type=Path, metavar="PSFEX_FOLDER", help="write DATA/psfs.npz first")
    parser.add_argument("--collect", type=Path, metavar="FOLDER", help="write the files of DATA first")
    parser.add_argument("--configuration", choices=CONFIGURATIONS, default="small")
    parser.add_argument("--start", help="a .safetensors file of weights to begin with")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--crop", type=int, default=64, help="fine pixels a side")
    parser.add_argument("--pool", type=int, default=256, help="scenes kept at a time")
    parser.add_argument("--renewed", type=int, default=1, help="of these, replaced in a step")
    parser.add_argument("--held-out", type=int, default=48, help="scenes of a validation")
    run(parser.parse_args(arguments))


def run(options):
    import torch

    from deconjugate.astro.network_input import CHANNELS, CONDITIONS
    from deconjugate.astro.swin_unet import SwinUNet
    from deconjugate.astro.train_network import DeconvolutionTask
    from deconjugate.astro.training_scenes import SceneData, Scenes, read_galaxies, render_psfs
    from deconjugate.operators.learned import weights
    from deconjugate.operators.learned.device import choose
    from deconjugate.operators.learned.training import train

    if options.threads:
        torch.set_num_threads(options.threads)
    device = choose(options.device)
    galaxies, aside, psfs = [], [], []
    if options.collect is not None:
        collect_files(_folder(options), options.collect)
    if options.render is not None:
        np.savez_compressed(_folder(options) / "psfs.npz", psfs=render_psfs(options.render))
    if options.data is not None:
        files = [_folder(options) / name for name in ("galaxies.npz", "psfs.npz")]
        if not any(path.exists() for path in files):
            raise SystemExit(f"{options.data} holds neither galaxies.npz nor psfs.npz")
        galaxies = read_galaxies(files[0]) if files[0].exists() else []
        kept = options.data / "held_out.npz"
        aside = read_galaxies(kept) if kept.exists() else []
        psfs = np.load(files[1])["psfs"] if files[1].exists() else []
    config = training_config(options)
    data = SceneData(seed=config.seed)
    torch.manual_seed(config.seed)
    network = SwinUNet(in_channels=CHANNELS, conditions=CONDITIONS, **CONFIGURATIONS[options.configuration])
    if options.start:
        weights.into(network, options.start, architecture="SwinUNet", **network.arguments)
    network.to(device)
    task = DeconvolutionTask(
        Scenes(data, galaxies, psfs),
        batch=options.batch,
        crop=options.crop,
        pool=options.pool,
        renewed=options.renewed,
        held_out=options.held_out,
        aside=Scenes(data, aside, psfs) if aside else None,
        device=device,
    )
    history = train(
        network,
        task,
        config,
        checkpoint=options.out,
        time_budget=options.time_budget,
        checkpoint_seconds=options.checkpoint_every,
        validate_steps=options.validate_steps,
        device=device,
    )
    card = {
        "architecture": "SwinUNet",
        "arguments": network.arguments,
        "data": asdict(data) | {"galaxies": len(galaxies), "held_out": len(aside), "psfs": len(psfs)},
        "recipe": {
            "start": options.start and _origin(options.start),
            "batch": options.batch, "crop": options.crop, "pool": options.pool, "renewed": options.renewed,
            "device": str(device),
            "torch": torch.__version__,
            "configurations": history["configurations"],
            "machine": platform.processor() or platform.machine(),
        },
    }  # fmt: skip
    save(network.half(), card, history, config, options)


def collect_files(data, folder):
    """Write ``galaxies.npz``, ``held_out.npz`` and ``psfs.npz`` from the collections of a folder."""
    from deconjugate.astro.training_images import collect
    from deconjugate.astro.training_scenes import render_psfs

    galaxies, aside = collect(folder / "galaxies")
    np.savez_compressed(data / "galaxies.npz", **galaxies)
    np.savez_compressed(data / "held_out.npz", **aside)
    if (folder / "psfex" / "train").is_dir():
        np.savez_compressed(data / "psfs.npz", psfs=render_psfs(folder / "psfex" / "train"))


def _origin(start):
    """How the weights that training begins with were trained, from their card."""
    from deconjugate.operators.learned import weights

    card = weights.read_card(start, architecture="SwinUNet")
    spent = {name: card["metrics"][name] for name in ("step", "seconds")}
    return {name: card[name] for name in ("sha256", "seed", "data", "recipe")} | {"metrics": spent}


def _folder(options):
    if options.data is None:
        raise SystemExit("--collect and --render write into the folder of --data: give both")
    options.data.mkdir(parents=True, exist_ok=True)
    return options.data


if __name__ == "__main__":
    main()
