"""Sums over the pixels of every source in a batch of frames."""

import torch


class SourceSums:
    """The sources of all frames in one row, frame by frame, and the sums that go with them.

    Parameters
    ----------
    sources : int64 tensor (N, h, w)
        Numbered from 1 in each frame, 0 where there is none.
    counts : int64 tensor (N,)

    Example
    -------
    >>> sources = torch.tensor([[[1, 1, 0]], [[2, 0, 1]]])
    >>> sums = SourceSums(sources, torch.tensor([1, 2]))
    >>> sums.of(torch.tensor([[[3.0, 4.0, 9.0]], [[1.0, 9.0, 2.0]]])).tolist()
    [7.0, 2.0, 1.0]
    >>> sums.owner.tolist(), sums.per_frame(torch.tensor([1.0, 2.0, 3.0])).tolist()
    ([0, 1, 1], [1.0, 5.0])
    """

    def __init__(self, sources, counts):
        self.frames, self.count = len(sources), int(counts.sum())
        before = counts.cumsum(0) - counts
        # One place behind the last takes what belongs to no source.
        self.place = torch.where(sources > 0, sources - 1 + before[:, None, None], self.count)
        self.owner = torch.repeat_interleave(torch.arange(self.frames, device=sources.device), counts,
                                             output_size=self.count)  # fmt: skip

    def of(self, values):
        """The sum of (N, h, w) values over each source, (sources,) float64."""
        sums = values.new_zeros(self.count + 1, dtype=torch.float64)
        return sums.index_add_(0, self.place.flatten(), values.double().flatten())[:-1]

    def at(self, numbers):
        """The number of the source that each pixel belongs to, zero where it belongs to none: the adjoint of ``of``."""
        return torch.cat([numbers, numbers.new_zeros(1)])[self.place]

    def per_frame(self, numbers):
        """The sum of the sources' numbers in each frame, (N,)."""
        return numbers.new_zeros(self.frames).index_add_(0, self.owner, numbers)

    def largest(self, numbers):
        """The largest of the sources' numbers, none of them negative, in each frame, (N,); zero where there is none."""
        return numbers.new_zeros(self.frames).scatter_reduce(0, self.owner, numbers, "amax")
