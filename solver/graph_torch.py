"""Work that a CUDA graph replays, so that launching its kernels costs nothing; done step by step where that fails."""

import warnings

import torch

from deconjugate.operators.memory_torch import is_full


class Replayed:
    """A function of no arguments, captured as a CUDA graph when it is first called and replayed from then on.

    It may launch kernels and nothing else: a graph knows the addresses of tensors, and no value. Memory that is made
    inside belongs to the graph. Where capture fails, for a driver or a kernel that cannot be captured, a warning says
    so, once for a device, and the function itself is called.

    Parameters
    ----------
    work : callable
    state : callable
        The tensors that ``work`` changes in place: before it is captured it runs once on another stream, so that all
        is compiled, planned and kept that will be, and after that they get their values back.
    device : torch.device

    Example
    -------
    >>> total = torch.zeros(())
    >>> add = Replayed(lambda: total.add_(1), lambda: [total], torch.device("cpu"))
    >>> add(), add(), total.item()
    (None, None, 2.0)
    """

    def __init__(self, work, state, device):
        self._work, self._state, self._device = work, state, device
        self._replay = None if can_capture(device) else work

    def __call__(self):
        if self._replay is None:
            self._warm_up()
            try:
                self._replay = captured(self._work, self._device)
            except RuntimeError as error:
                if is_full(error):
                    raise
                _tell(self._device, str(error).strip().split("\n")[0])
                self._replay = self._work
        self._replay()

    def _warm_up(self):
        saved = [t.clone() for t in self._state()]
        on_another_stream(self._work, self._device)
        for t, value in zip(self._state(), saved):
            t.copy_(value)


def can_capture(device):
    """Whether a device has graphs."""
    return device.type == "cuda"


def on_another_stream(work, device):
    """Call ``work`` on a stream of its own, between what is before and after it on the present one."""
    side = torch.cuda.Stream(device)
    present = torch.cuda.current_stream(device)
    side.wait_stream(present)
    with torch.cuda.stream(side):
        work()
    present.wait_stream(side)


def captured(work, device):
    """What replays ``work``, which is captured and not done."""
    graph = torch.cuda.CUDAGraph()
    # A capture that fails may leave its stream the present one; other threads may go on with what they do.
    with (
        torch.cuda.device(device),
        torch.cuda.stream(torch.cuda.current_stream(device)),
        torch.cuda.graph(graph, capture_error_mode="thread_local"),
    ):
        work()
    return graph.replay


_told = set()


def _tell(device, reason):
    if str(device) not in _told:
        _told.add(str(device))
        warnings.warn(
            f"a CUDA graph could not be captured on {device} ({reason}); iterations are launched kernel by kernel, "
            "slower where systems are small",
            RuntimeWarning,
            stacklevel=4,
        )
