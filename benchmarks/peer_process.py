"""A peer in a process of its own, with a limit on its time: it may hang or crash, and takes nothing with it.

Only the peer's own seconds count, taken inside the process: not its start, the imports or the way of the matrix there
and of x back. The process is kept between runs, so that all but the first find memory and threads at hand, as ours do.
"""

import os
import pickle
import signal
import subprocess
import sys
from importlib import import_module
from math import ceil

from peers import environments, module_of

# A peer that fails or crashes by chance, or after earlier runs, is given another process.
ATTEMPTS = 2


def limit_for(ours, least=30.0):
    """The seconds a run of a peer may take where ours takes so many: 200 times as many, and not less than ``least``."""
    return max(least, ceil(200 * ours))


class PeerProcess:
    """One peer and one system.

    Parameters
    ----------
    peer : function f(A, b, rtol) -> (x, iterations, setup seconds, solve seconds), importable by name
    A, b, rtol
        As for the functions in ``peers``.
    limit : float
        Seconds of wall-clock time for one run.
    """

    def __init__(self, peer, A, b, rtol, *, limit):
        self.limit = limit
        self._problem = peer, A, b, rtol, limit
        self._process = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def run(self):
        """(x, iterations, setup seconds, solve seconds) of one run.

        Raises
        ------
        TimeoutError
            The run took longer than the limit.
        RuntimeError
            The peer failed, in a new process also.
        """
        for _ in range(ATTEMPTS):
            answer = self._ask()
            if not isinstance(answer, str):
                return answer
            self.close()
        raise RuntimeError(answer)

    def _ask(self):
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, __file__],
                env=os.environ | environments.get(self._problem[0], {}),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
            pickle.dump(self._problem, self._process.stdin, pickle.HIGHEST_PROTOCOL)
        try:
            self._process.stdin.write(b"\n")
            self._process.stdin.flush()
            return pickle.load(self._process.stdout)
        except (EOFError, BrokenPipeError):
            code = self._process.wait()
        if code == -signal.SIGALRM:
            self.close()
            raise TimeoutError(f"> {self.limit:g} s")
        return f"ended by {signal.Signals(-code).name}" if code < 0 else f"ended with status {code}"

    def close(self):
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None


def serve():
    """Answer each byte that comes with a run; the alarm ends the process, whatever the peer is at."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a peer prints is no answer
    peer, A, b, rtol, limit = pickle.load(sys.stdin.buffer)
    if module_of(peer):
        import_module(module_of(peer))
    while sys.stdin.buffer.read(1):
        signal.setitimer(signal.ITIMER_REAL, limit)
        try:
            answer = peer(A, b, rtol)
        except Exception as error:
            answer = f"{type(error).__name__}: {error}"
        signal.setitimer(signal.ITIMER_REAL, 0)
        pickle.dump(answer, answers, pickle.HIGHEST_PROTOCOL)
        answers.flush()


if __name__ == "__main__":
    serve()
