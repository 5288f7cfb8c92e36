"""Train the solver's networks: ``python -m deconjugate.solver.train dcdm --size 32 --time-budget 9m --out FOLDER``."""

import argparse
import platform
from dataclasses import asdict
from pathlib import Path


def main(arguments=None):
    parser = argparse.ArgumentParser(prog="python -m deconjugate.solver.train", description=__doc__.split(":")[0])
    networks = parser.add_subparsers(dest="network", required=True)
    for name, (configure, _) in NETWORKS.items():
        configure(networks.add_parser(name, formatter_class=argparse.ArgumentDefaultsHelpFormatter))
    options = parser.parse_args(arguments)
    return NETWORKS[options.network][1](options)


def seconds(text):
    """A time such as 90, 90s, 9m or 1.5h in seconds."""
    unit = {"s": 1.0, "m": 60.0, "h": 3600.0}.get(text[-1:].lower())
    try:
        value = float(text if unit is None else text[:-1]) * (unit or 1.0)
    except ValueError:
        value = -1.0
    if not value > 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no time; give such as 90s, 9m or 1.5h")
    return value


def common_options(parser):
    """What the training of every network asks."""
    from deconjugate.operators.learned.training import TrainingConfig

    default = TrainingConfig()
    parser.add_argument("--out", type=Path, required=True, help="folder of the checkpoint; continued where it exists")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--threads", type=int, help="threads on a processor")
    parser.add_argument("--time-budget", type=seconds, help="end after such as 9m; run again to go on")
    parser.add_argument("--checkpoint-every", type=seconds, default=180.0, help="seconds between checkpoints")
    parser.add_argument("--validate-steps", type=int, help="steps between validations")
    for name in ("steps", "learning_rate", "warmup", "final_rate", "weight_decay", "clip", "average", "seed"):
        value = getattr(default, name)
        parser.add_argument("--" + name.replace("_", "-"), type=type(value), default=value)
    parser.add_argument("--precision", choices=("single", "tf32", "bfloat16"), default=default.precision)
    parser.add_argument("--licence", default="BSD-3-Clause", help="of the weights, for their card")


def training_config(options):
    from deconjugate.operators.learned.training import TrainingConfig

    names = TrainingConfig.__dataclass_fields__
    return TrainingConfig(**{name: value for name, value in vars(options).items() if name in names})


def save(network, card, history, config, options):
    """Write the weights with their card: what is said of every network is added to ``card``."""
    from deconjugate.operators.learned import weights

    metrics = ("step", "seconds", "skipped", "finished", "curve", "validation")
    card |= {
        "seed": config.seed,
        "metrics": {name: history[name] for name in metrics},
        "licence": options.licence,
    }
    path = options.out / "weights.safetensors"
    weights.save(path, network.state_dict(), card)
    print(f"step {history['step']} of {config.steps}, {history['seconds']:.0f} s: {path}")


def configure_dcdm(parser):
    common_options(parser)
    parser.set_defaults(learning_rate=1e-4)
    parser.add_argument("--recipe", choices=("streams", "paper"), default="streams", help="what it is trained on")
    parser.add_argument("--layers", choices=("small", "large"), default="small", help="97,457 or 152,881 parameters")
    parser.add_argument("--start", default="two-grid", help="two-grid, random, or a .safetensors file of weights")
    for name in ("size", "ndim", "batch", "life", "window", "lanczos", "geometries"):
        parser.add_argument(f"--{name}", type=int)
    parser.add_argument("--loss", choices=("residual", "energy"), help="the paper's, or the energy that is left")
    for name in ("ritz", "open"):
        parser.add_argument(f"--{name}", type=float)


def train_dcdm(options):
    import torch

    from deconjugate.operators.learned import weights
    from deconjugate.operators.learned.device import choose
    from deconjugate.operators.learned.training import train
    from deconjugate.solver import dcdm, dcdm_start, dcdm_training

    if options.threads:
        torch.set_num_threads(options.threads)
    device = choose(options.device)
    config = training_config(options)
    given = {name: getattr(options, name) for name in dcdm_training.DcdmData.__dataclass_fields__}
    given = {name: value for name, value in given.items() if value is not None}
    data = dcdm_training.DcdmData(**(dcdm_training.PAPER if options.recipe == "paper" else {}) | given)
    torch.manual_seed(config.seed)
    layers = {"small": dcdm.SMALL, "large": dcdm.LARGE}[options.layers]
    network = dcdm.DcdmNetwork(data.ndim, **layers)
    before = None
    if options.start == "two-grid":
        dcdm_start.two_grid_start(network)
    elif options.start != "random":
        before = weights.into(network, options.start, architecture="DcdmNetwork", ndim=data.ndim)
        before = {name: before[name] for name in ("data", "recipe", "seed", "metrics", "sha256")}
    network.to(device)
    history = train(
        network,
        dcdm_training.DcdmTask(data, device),
        config,
        checkpoint=options.out,
        time_budget=options.time_budget,
        checkpoint_seconds=options.checkpoint_every,
        validate_steps=options.validate_steps,
        device=device,
    )
    card = {
        "architecture": "DcdmNetwork",
        "arguments": network.arguments,
        "data": asdict(data),
        "recipe": {
            "start": Path(options.start).name,
            "before": before,
            "device": str(device),
            "torch": torch.__version__,
            "configurations": history["configurations"],
            "machine": platform.processor() or platform.machine(),
        },
    }
    save(network, card, history, config, options)


def configure_multigrid(parser):
    common_options(parser)
    parser.set_defaults(learning_rate=0.015, steps=2000, average=0.99, threads=1)
    parser.add_argument("--half-sweeps", type=int, default=5, help="on either side of the coarse correction")
    parser.add_argument("--start", help="a .safetensors file of weights to begin with")


def train_multigrid(options):
    import numba
    import torch

    from deconjugate.operators.learned import weights
    from deconjugate.operators.learned.training import train
    from deconjugate.solver.train_multigrid import CutCells, MultigridTask

    if options.threads:
        torch.set_num_threads(options.threads)
        numba.set_num_threads(options.threads)
    config = training_config(options)
    network, task = CutCells(config.seed, options.half_sweeps), MultigridTask(config.seed)
    if options.start:
        network.begin_with(weights.load(options.start, architecture="LearnedMultigrid")[0])
    history = train(
        network,
        task,
        config,
        checkpoint=options.out,
        time_budget=options.time_budget,
        checkpoint_seconds=options.checkpoint_every,
        validate_steps=options.validate_steps,
    )
    card = {
        "architecture": "LearnedMultigrid",
        "arguments": {"half_sweeps": options.half_sweeps},
        "data": "random problems of solver/train_multigrid.py, 14 to 30 cells a side in 3-D, 40 to 96 in 2-D",
        "recipe": {"start": options.start and Path(options.start).name, "torch": torch.__version__}
        | {"configurations": history["configurations"]},
    }
    save(network, card, history, config, options)


NETWORKS = {"dcdm": (configure_dcdm, train_dcdm), "multigrid": (configure_multigrid, train_multigrid)}

if __name__ == "__main__":
    main()
