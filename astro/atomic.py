"""Files that are written whole or not at all."""

import os
import re
import stat
import tempfile

PART = re.compile(r"\.part-(\d+)-")  # what begins the name of a file that is being written, with the process in it


def write_atomically(path, write, *, overwrite=False):
    """Have ``write(temporary_path)`` write beside ``path``, then rename; on any failure the old file stays.

    Parameters
    ----------
    path : str or path
    write : callable
        Given a temporary path in the same folder whose name ends as that of ``path``.
    overwrite : bool

    Raises
    ------
    FileExistsError, OSError
        See :func:`check_output`; whatever ``write`` raises.
    """
    path = check_output(path, overwrite=overwrite)
    folder, name = os.path.split(path)
    handle, temporary = tempfile.mkstemp(prefix=_part(os.getpid()), suffix=f".{name}", dir=folder)
    try:
        os.close(handle)
        write(temporary)
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        # mkstemp made the file private; give it the mode of the file replaced, or that of any new file.
        os.chmod(temporary, stat.S_IMODE(os.stat(path).st_mode) if os.path.exists(path) else 0o666 & ~_umask())
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def check_output(path, *, overwrite=False):
    """The real path of an output that can be written, so that it is known before the work starts.

    Raises
    ------
    FileExistsError
        The file exists and ``overwrite`` is not set.
    OSError
        It is no plain file; its folder is missing or not writable.
    """
    path = os.path.realpath(path)
    folder = os.path.dirname(path)
    if os.path.exists(path) and not os.path.isfile(path):
        raise OSError(f"the output {path} is not a plain file; give a file name")
    if os.path.exists(path) and not overwrite:
        raise FileExistsError(f"{path} exists; choose another output or allow overwriting (--overwrite)")
    if not os.path.isdir(folder):
        raise OSError(f"the folder {folder} of the output does not exist")
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OSError(f"the folder {folder} of the output is not writable: {error.strerror}") from error
    return path


def remove_parts(path, pid=None):
    """Remove what a process that is no more had begun to write of an output; it had no chance to do so itself.

    Without ``pid``, what any process of this machine had begun that is no more.
    """
    folder, name = os.path.split(os.path.realpath(path))
    for entry in os.listdir(folder) if os.path.isdir(folder) else ():
        part = PART.match(entry)
        if part and entry.endswith(f".{name}") and (_is_gone(int(part[1])) if pid is None else int(part[1]) == pid):
            os.unlink(os.path.join(folder, entry))


def _is_gone(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except OSError:  # another user's
        return False
    return False


def _part(pid):
    return f".part-{pid}-"


def _umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask
