"""Many files, one after the other or by several processes: none stops the rest, and none is lost."""

import os
import signal
import sys
import traceback
import warnings
from collections import deque
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace

from deconjugate.astro.reporting import one_line

TRIES = 2  # of a file whose process is killed
THREADS = ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


@dataclass(frozen=True)
class Job:
    """One file to be deconvolved."""

    path: str
    output: str
    options: object  # deconjugate.astro.file_options.FileOptions


def run_jobs(jobs, report, *, processes=1, resume=False, debug=False, only_plan=False):
    """Do every job and report on each.

    What a job writes depends on its inputs alone, so that any number of processes, in any order, writes the same bytes.
    A file whose process is killed is tried once more, by a new one.

    Parameters
    ----------
    jobs : list of Job
    report : callable
        Given the dictionary of :func:`attempt` of each, as they end.
    processes : int, >= 1
        1: no process but this one.
    resume : bool
        Whether to leave alone what is done already.
    only_plan : bool
        Whether to say only what would be done.
    debug : bool
        Whether errors are raised (one process), or shown with their traceback (several).

    Example
    -------
    >>> from deconjugate.astro.deconvolve_file import file_options
    >>> run_jobs([Job("nothing.fits", "out.fits", file_options(fwhm_pix=3.0))], lambda said: print(said["error"]))
    no such file: nothing.fits
    """
    if processes == 1 or len(jobs) == 1 or only_plan:
        for job in jobs:
            report(attempt(job, resume=resume, debug=debug, only_plan=only_plan))
    else:
        _Workers(jobs, report, min(processes, len(jobs)), resume, debug).run()


def run_bands(jobs, report, *, resume=False, debug=False, only_plan=False):
    """As :func:`run_jobs`, of images that are bands of one object: all are done, or none is."""
    from deconjugate.astro.band_files import are_done, band_images, check_grids, process_bands
    from deconjugate.astro.estimate import plan

    paths, outputs, options = zip(*((job.path, job.output, job.options) for job in jobs))
    heard = [{"input": job.path, "output": job.output, "status": "done"} for job in jobs]
    with _noted() as caught:
        try:
            there = are_done(paths, outputs, options) if resume else [False]
            if all(there):
                heard = [said | {"status": "skipped"} for said in heard]
            elif only_plan:
                band_images(paths, options)
                for said in check_grids(paths, options):
                    warnings.warn(said, stacklevel=2)
                heard = [said | plan(*job) for said, job in zip(heard, zip(paths, outputs, options))]
                heard = [said | {"plan": f"{said['plan']}, and as long again to match"} for said in heard]
            else:
                if resume:  # an interrupt may come when some bands are written
                    for job in jobs:
                        _sweep(job)
                    options = [replace(one, overwrite=one.overwrite or done) for one, done in zip(options, there)]
                heard = [said | done for said, done in zip(heard, process_bands(paths, outputs, options)[1])]
        except Exception as error:
            if debug:
                raise
            failed = {"status": "failed", "error": one_line(error)}
            rest = {"status": "failed", "error": "not done, since the bands are matched or none is"}
            heard = [{**said, **(rest if i else failed)} for i, said in enumerate(heard)]
    for i, said in enumerate(heard):
        report(said | {"warnings": [] if i else _told(caught)})


def attempt(job, *, resume=False, debug=False, only_plan=False):
    """Do one job; a dictionary with "input", "output", "status", "warnings", and what was done or the "error"."""
    from deconjugate.astro.deconvolve_file import process
    from deconjugate.astro.estimate import plan
    from deconjugate.astro.fingerprint import is_done

    said = {"input": job.path, "output": job.output, "status": "done"}
    with _noted() as caught:
        try:
            if resume and is_done(job.path, job.output, job.options):
                said["status"] = "skipped"
            elif only_plan:
                said |= plan(job.path, job.output, job.options)
            else:
                if resume:  # what a whole run that was killed has left
                    _sweep(job)
                said |= process(job.path, job.output, job.options)[1]
        except Exception as error:
            if debug:
                raise
            said |= {"status": "failed", "error": one_line(error)}
    return said | {"warnings": _told(caught)}


@contextmanager
def _noted():
    """Collect warnings."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always" if not sys.warnoptions else "default")
        yield caught


def _told(caught):
    """The warnings for those who use a package, each once, in a line."""
    return list(dict.fromkeys(one_line(warning.message) for warning in caught if _for_users(warning)))


def _for_users(warning):
    """Whether a warning is for those who use a package rather than for those who write it."""
    return issubclass(warning.category, UserWarning)


class _Workers:
    """Processes that take one job at a time."""

    def __init__(self, jobs, report, count, resume, debug):
        from multiprocessing import get_context

        self.context, self.report, self.resume, self.debug = get_context("spawn"), report, resume, debug
        self.waiting = deque((job, TRIES) for job in jobs)
        self.threads = str(max(1, len(os.sched_getaffinity(0)) // count))
        self.count, self.busy = count, {}  # connection: (process, job, tries left)

    def run(self):
        from multiprocessing.connection import wait

        try:
            for _ in range(self.count):
                self._give(*self._started())
            while self.busy:
                for connection in wait(list(self.busy)):
                    self._hear(connection)
        finally:
            for process, _, _ in self.busy.values():
                process.terminate()
            for process, job, _ in self.busy.values():
                process.join()
                _sweep(job, process.pid)

    def _started(self):
        ours, theirs = self.context.Pipe()
        process = self.context.Process(target=_work, args=(theirs, self.resume, self.debug), daemon=True)
        with _environment(dict.fromkeys(THREADS, self.threads)):
            process.start()
        theirs.close()  # so that the end of the process ends the connection
        return ours, process

    def _give(self, connection, process):
        """The next job to a worker; none is left: its end."""
        if not self.waiting:
            connection.close()
            process.join()
            return
        job, tries = self.waiting.popleft()
        self.busy[connection] = process, job, tries - 1
        with suppress(OSError):  # it has died: its silence tells
            connection.send(job)

    def _hear(self, connection):
        process, job, tries = self.busy.pop(connection)
        try:
            said = connection.recv()
        except (EOFError, OSError):
            connection.close()
            process.join()
            _sweep(job, process.pid)
            if tries:
                self.waiting.appendleft((job, tries))
            else:
                how = f"signal {-process.exitcode}" if process.exitcode < 0 else f"exit status {process.exitcode}"
                error = f"its process was killed {TRIES} times ({how}): is there memory enough? --jobs 1 takes least"
                self.report(
                    {"input": job.path, "output": job.output, "status": "failed", "error": error, "warnings": []}
                )
            if self.waiting:
                self._give(*self._started())
            return
        self.report(said)
        self._give(connection, process)


def _work(connection, resume, debug):
    """The life of a worker: jobs in, reports out, until the connection ends."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # unwinds, so that temporary files go
    with suppress(EOFError, BrokenPipeError, KeyboardInterrupt):
        while True:
            job = connection.recv()
            try:
                said = attempt(job, resume=resume, debug=debug)
            except Exception as error:
                traceback.print_exc()
                said = {"input": job.path, "output": job.output, "status": "failed", "error": one_line(error)}
                said["warnings"] = []
            connection.send(said)


def _sweep(job, pid=None):
    """Remove what a killed process, or any, had begun to write."""
    from deconjugate.astro.atomic import remove_parts

    for output in (job.output, job.options.qa):
        if output is not None:
            remove_parts(output, pid)


@contextmanager
def _environment(values):
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
