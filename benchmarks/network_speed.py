"""Seconds and memory of the network."""

import json
import resource
import subprocess
import sys
import time

import numpy as np
from network_views import chosen

from deconjugate.astro import PSF, deconvolve, scatter_sources, simulate
from deconjugate.astro.metrics import nmse


def speed(args):
    """Seconds of a stamp and of a frame, in a process of its own; the answer is checked first."""
    if not args.child:
        again = [sys.executable, sys.argv[0], "speed", "--child", "--weights", args.weights, *["--quick"] * args.quick]
        *lines, last = subprocess.run(again, stdout=subprocess.PIPE, text=True, check=True).stdout.splitlines()
        print("\n".join(lines), flush=True)
        args.results.note("network/speed", **json.loads(last))
        return
    found = {}
    for size, repeats in ((128, 5), (1024, 2)) if args.quick else ((128, 15), (2048, 2)):
        stamps = [image for image in chosen(args) if max(image.shape) < 100]
        sky = scatter_sources(stamps, (size, size), max(1, size * size // 16000), seed=1).astype(np.float32)
        scene = simulate(sky, PSF.moffat(3.5).fine(2, max_size=63), upsample=2, peak_snr=100, seed=1)
        options = {"noise": scene.noise_map, "device": "cpu"}
        psf, seconds = PSF.from_array(PSF.moffat(3.5).fine(1, max_size=31)), {"network": [], "classical": []}
        for _ in range(repeats):
            for name, network in (("network", args.weights), ("classical", None)):
                start = time.perf_counter()
                result = deconvolve(scene.data, psf, network=network, **options)
                seconds[name].append(time.perf_counter() - start)
                if name == "network":
                    learned = result
        error, before = (nmse(x, scene.truth) for x in (learned.image.data, learned.stages["tikhonov"]))
        if not error < before:
            raise SystemExit(f"the image is wrong: a squared error of {error:.4f} where Tikhonov's is {before:.4f}")
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
        steps = ", ".join(f"{step} {value:.3f}" for step, value in learned.timings.items())
        print(f"{size}^2 fine pixels: NMSE {error:.4f}, network "
              f"{np.median(seconds['network'][1:]):.3f} s (the last: {steps}), classical path "
              f"{np.median(seconds['classical'][1:]):.3f} s, {peak:.2f} GB so far", flush=True)  # fmt: skip
        found[f"seconds_{size}"], found["gigabytes"] = np.median(seconds["network"][1:]), peak
    print(json.dumps(found))
