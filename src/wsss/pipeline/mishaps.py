"""What stops a stage from outside, in words: a full disk, too little memory, Ctrl-C.

Neither the user nor the code did anything wrong, so what a person needs is what happened, what is
kept of the work, and what to do.
"""

import errno
import os
import re
import shlex
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from wsss.artifacts.shards import INDEX, members
from wsss.commands import room
from wsss.pipeline.staging import partial_folder

__all__ = ["costly_settings", "explain", "kept_work"]

_SHARED_MEMORY = re.compile(r"bus error|shared memory|shm_open|/torch_\d+_\d+.*no space")
_GPU_MEMORY = ("cuda out of memory", "cuda error: out of memory", "status_alloc_failed")
_MEMORY = ("out of memory", "can't allocate memory", "unable to allocate", "cannot allocate memory")
_MANY_FILES = ("too many open files", "items of ancdata")
_COSTLY = ("batch_size", "crop_size", "eval_long_side", "window", "scales", "max_pixels")


def explain(
    error: BaseException, costly: Sequence[str] = (), places: Sequence[Path] = ()
) -> str | None:
    """Say what stopped the work and what to do about it; None for what the code is to blame for.

    Args:
        error: what was raised.
        costly: settings with their values that memory depends on, such as "x.batch_size (16)".
        places: where the work writes; a full disk does not always say which one it is.
    """
    text = _own_words(str(error))
    number = getattr(error, "errno", None) or _number(text)
    said = _system_words(error, number, text)
    if number in (errno.EMFILE, errno.ENFILE) or any(sign in said for sign in _MANY_FILES):
        return (
            f"Too many files are open: {_first_line(text)}\n"
            "Allow more (`ulimit -n 65536`), or lower machine.num_workers."
        )
    if _SHARED_MEMORY.search(said):
        return (
            f"Processes that load images found no room in shared memory (/dev/shm has "
            f"{_room(Path('/dev/shm'))}): {_first_line(text)}\n"
            "Set machine.num_workers: 0 (results stay the same), or give it more: "
            "`docker run --shm-size=2g`, in compose `shm_size: 2gb`."
        )
    if isinstance(error, MemoryError) or any(sign in said for sign in (*_GPU_MEMORY, *_MEMORY)):
        return _too_little_memory(text, costly)
    if "dataloader worker" in said:  # killed, or gone without a word
        return (
            f"{_first_line(text)}\n"
            "Most often the system had no memory left and killed it: lower machine.num_workers, "
            "or set it to 0."
        )
    if isinstance(error, OSError):
        return _explain_disk(error, number, text, places)
    return text if isinstance(error, ValueError | ImportError) else None


def costly_settings(settings: Mapping[str, Any]) -> list[str]:
    """List the settings that memory depends on, with their values.

    Example:
        >>> costly_settings({"train": {"batch_size": 16, "epochs": 3}})
        ['train.batch_size (16)']
    """
    return [f"{key} ({value})" for key, value in _leaves(settings)]


def kept_work(outs: Sequence[Path]) -> str:
    """Say what a stage that was stopped has done already; "" where that is nothing.

    Args:
        outs: what it makes.
    """
    kept = []
    for out in outs:
        for partial in (partial_folder(out), *sorted(out.glob(".*.partial"))):
            if not partial.is_dir():
                continue
            files = [file for file in partial.rglob("*") if file.is_file()]
            count = sum(map(_files, files))
            epochs = [
                f"{done} of {file.name[6:-3]}"
                for file in sorted(partial.glob(".work.*.pt"))
                if (done := _training(file))
            ]
            made = [*epochs, *([f"{count} files"] if count else [])]
            if made:
                kept.append(f"{' and '.join(made)} in {partial}")
    return f"What is done is kept: {', '.join(kept)}." if kept else ""


def _files(file: Path) -> int:
    """How many files a person counts one as: those in a shard, and none that is hidden."""
    if file.suffix == ".zip":
        with suppress(ValueError):  # a damaged one
            return len(members(file))
    return int(not file.name.startswith(".") and file.name != INDEX)


def _own_words(text: str) -> str:
    """The text of an error without the trace that a process which loads images puts before it."""
    if not text.startswith("Caught ") or "DataLoader worker" not in text.partition("\n")[0]:
        return text
    last = [*re.finditer(r"^(?:\w+\.)*\w+: ", text, re.MULTILINE)]
    return text[last[-1].end() :].strip() if last else text


def _system_words(error: BaseException, number: int | None, text: str) -> str:
    """What the system, or a library, says of itself: no path or value, which may read like it."""
    if isinstance(error, ValueError | ImportError | FileNotFoundError):
        return ""
    if isinstance(error, OSError) and number is not None:
        return os.strerror(number).lower()
    return text.lower()


def _explain_disk(error: OSError, number: int | None, text: str, places: Sequence[Path]) -> str:
    place = Path(os.fsdecode(error.filename)) if error.filename else Path()
    if number in (errno.ENOSPC, errno.EDQUOT):
        if not error.filename:
            place = min((Path(), Path(tempfile.gettempdir()), *places), key=_free)
        return (
            f"{text}\nA disk, or your share of it, is full; {_there(place)} has {_room(place)} "
            f"now. Free some space{room(Path())}."
        )
    if number == errno.EFBIG:
        return f"{text}\nFiles may not be that large here; see `ulimit -f`."
    if number == errno.EROFS:
        return f"{text}\nThat disk is mounted read-only; mount it so that it can be written."
    if number in (errno.EACCES, errno.EPERM):
        return f"{text}\n{_whose(place)}"
    if number in (errno.EIO, errno.ESTALE, errno.ENODEV):
        return f"{text}\nThe disk does not answer as it should; see `dmesg`, or mount it again."
    return text


def _too_little_memory(text: str, costly: Sequence[str]) -> str:
    place = "The GPU" if any(sign in text.lower() for sign in ("cuda", "gpu")) else "The machine"
    lower = f"lower one of {', '.join(costly)}" if costly else "work on smaller images or batches"
    other = ""
    if place == "The GPU":
        other = ", see with `nvidia-smi` whether another process has it"
    reason = f": {_first_line(text)}" if text else ""
    return f"{place} has too little memory{reason}\nTo need less, {lower}{other}."


def _whose(place: Path) -> str:
    """Say whom a place belongs to that this process may not use, and what opens it."""
    there = _there(place)
    # a file that may not be made, moved or deleted is its folder's
    there = next((path for path in (there, there.parent) if not _is_open(path)), there)
    owner, own, quoted = there.stat().st_uid, os.geteuid(), shlex.quote(str(there))
    if owner == own:
        return f"{there} is yours, but closed; open it (`chmod u+rwX {quoted}`)."
    whose = f"{there} belongs to user {owner}, and this process is run by {own}"
    if owner == 0 and there.is_relative_to(Path.cwd()):
        return (
            f"{whose}; give it away (`sudo chown -R {own} {quoted}`), as a container that ran as "
            "root may have made it."
        )
    return f"{whose}; ask its owner for the right to use it, or name another place."


def _is_open(path: Path) -> bool:
    return os.access(path, os.R_OK | os.W_OK | (os.X_OK if path.is_dir() else 0))


def _room(place: Path) -> str:
    usage = shutil.disk_usage(_there(place))
    return f"{usage.free / 2**20:.0f} of {usage.total / 2**20:.0f} MiB free"


def _free(place: Path) -> int:
    return shutil.disk_usage(_there(place)).free


def _there(place: Path) -> Path:
    """Give what there is of a path: itself, or the folder it would be in."""
    place = place.absolute()
    # unlike Path.exists, that says no of what lies in a folder that is closed to this user
    return next(path for path in (place, *place.parents) if os.access(path, os.F_OK))


def _number(text: str) -> int | None:
    found = re.search(r"\[Errno (\d+)\]", text)
    return int(found[1]) if found else None


def _first_line(text: str) -> str:
    line = text.strip().partition("\n")[0]
    return line if len(line) <= 300 else f"{line[:297]}..."


def _training(checkpoint: Path) -> str:
    from wsss.training.checkpoint import what_is_done

    return what_is_done(checkpoint)


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, BaseModel):
        value = {name: getattr(value, name) for name in type(value).model_fields}
    if isinstance(value, Mapping):
        for key, held in value.items():
            yield from _leaves(held, f"{path}.{key}" if path else str(key))
    elif isinstance(value, Sequence) and value and isinstance(value[0], BaseModel):
        for at, held in enumerate(value):
            yield from _leaves(held, f"{path}.{at}")
    elif path.rpartition(".")[2] in _COSTLY and value is not None:
        yield path, value
