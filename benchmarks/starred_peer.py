"""STARRED (Michalewicz et al. 2023) as a peer, in a process and, where wanted, an environment of its own.

It brings jax, so it may live in a virtual environment apart: DECONJUGATE_STARRED names the Python that has it
(``python -m venv DIR && DIR/bin/pip install starred-astro``), by default the one that runs the benchmarks.

Set up as its scripts and documentation do it: data in hundredths of their peak, the narrow PSF as kernel, weights of
the starlet scales from 100 realisations of the noise, AdaBelief. Three things are not left as they are there, for the
sake of the result: the strength, since at 1 the image fits the noise; the rate, since 500 steps of 0.05 do not reach
the peak of a sharp image; and the weight of positivity. No point sources: these are galaxies.
"""

import os
import pickle
import subprocess
import sys

STRENGTHS = (15.0, 30.0, 60.0, 120.0, 240.0, 480.0)  # the best is 30 to 60 at upsample 2, 240 at 4
POSITIVITY = 0.1  # 100, as in its examples, leaves AdaBelief far from the data
STEPS, RATE = 500, 0.3  # of AdaBelief, in hundredths of the peak


def starred(data, sigma, kernel, upsample, *, strengths=STRENGTHS, limit=900.0):
    """Images (H, W) on the fine grid, one for every strength.

    Parameters
    ----------
    data : (h, w) array
    sigma : float
    kernel : (odd, odd) array
        From the target resolution to the data, on the fine grid, sum 1: STARRED's narrow PSF.
    limit : float
        Seconds.

    Raises
    ------
    RuntimeError
        STARRED is not there, or failed; with its last words.
    TimeoutError
        It took longer than the limit.
    """
    python = os.environ.get("DECONJUGATE_STARRED", sys.executable)
    # One thread, as everything beside it has.
    one = {"XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1", "JAX_PLATFORMS": "cpu"}
    try:
        done = subprocess.run(
            [python, __file__],
            input=pickle.dumps((data, sigma, kernel, upsample, strengths)),
            capture_output=True,
            timeout=limit,
            env=os.environ | one,
        )
    except subprocess.TimeoutExpired as error:
        raise TimeoutError(f"> {limit:g} s") from error
    if done.returncode:
        raise RuntimeError(done.stderr.decode(errors="replace").strip().splitlines()[-1])
    return pickle.loads(done.stdout)


def images(data, sigma, kernel, upsample, strengths):
    import jax.numpy as jnp
    import numpy as np
    from starred.deconvolution.deconvolution import setup_model
    from starred.deconvolution.loss import Loss
    from starred.deconvolution.parameters import ParametersDeconv
    from starred.optim.optimization import Optimizer
    from starred.utils.noise_utils import propagate_noise

    # It takes square frames alone: what is added has no weight.
    side, unit = max(data.shape), data.max() / 100.0
    square, variance = np.zeros((1, side, side)), np.full((1, side, side), 1e10)
    frame = (0, *(slice(n) for n in data.shape))
    square[frame], variance[frame] = data / unit, (sigma / unit) ** 2
    model, start, above, below, fixed = setup_model(
        square, variance, jnp.asarray(kernel[None], jnp.float32), [], [], upsample, initial_a=np.zeros(0)
    )
    fixed["kwargs_background"]["mean"] = np.zeros(1)
    uniform = np.full_like(variance, (sigma / unit) ** 2)
    weights = propagate_noise(model, np.sqrt(uniform), start, num_samples=100, seed=1, upsampling_factor=upsample)[0]
    found = []
    for strength in strengths:
        parameters = ParametersDeconv(start, fixed, kwargs_up=above, kwargs_down=below)
        loss = Loss(
            square,
            model,
            parameters,
            variance,
            regularization_strength_scales=strength,
            regularization_strength_hf=strength,
            regularization_strength_positivity=POSITIVITY,
            W=jnp.asarray(weights),
        )
        optimizer = Optimizer(loss, parameters, method="adabelief")
        optimizer.minimize(max_iterations=STEPS, init_learning_rate=RATE, progress_bar=False)
        image = np.asarray(model.getDeconvolved(parameters.best_fit_values(as_kwargs=True), 0)[0])
        # What its soft positivity leaves below zero is cut off.
        found.append(unit * np.maximum(image[: data.shape[0] * upsample, : data.shape[1] * upsample], 0.0))
    return found


if __name__ == "__main__":
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what it prints is no answer
    pickle.dump(images(*pickle.load(sys.stdin.buffer)), answers)
    answers.flush()
