"""Element-wise steps of the splitting in sparse.py, one pass over memory each."""

from numba import njit, prange


@njit(parallel=True, cache=True)
def shrink(planes, state, levels, penalties, spread, relax, keep):
    """Soft threshold of every detail plane; ``planes`` leaves holding the gradient of its coupling term.

    ``state`` is v = z + u with z = soft(v) and u = clip(v): one array in place of two. It moves to
    v = relax w + keep z + u, keep = 1 - relax; planes become rho (w - z + u), the coarse one zero.
    """
    scales, height, width = state.shape
    for i in prange(height):
        for j in range(scales):
            rho, level = penalties[j], levels[j]
            for k in range(width):
                t = level * spread[i, k]
                v, w = state[j, i, k], planes[j, i, k]
                u = min(max(v, -t), t)
                v = relax * w + keep * (v - u) + u
                u = min(max(v, -t), t)
                state[j, i, k] = v
                planes[j, i, k] = rho * (w - v + u + u)
        for k in range(width):
            planes[scales, i, k] = 0


@njit(parallel=True, cache=True)
def project(image, state, positive, penalty, relax, keep, gradient):
    """Projection on images that are nowhere negative, if ``positive``.

    As :func:`shrink`, z the projection of v; rho (x - z + u) is added to ``gradient``.
    """
    height, width = image.shape
    for i in prange(height):
        for k in range(width):
            v, x = state[i, k], image[i, k]
            z = v if v > 0 or not positive else 0 * v
            v = relax * x + keep * z + v - z
            z = v if v > 0 or not positive else 0 * v
            state[i, k] = v
            gradient[i, k] += penalty * (x - z - z + v)
