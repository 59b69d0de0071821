"""What a job of a cluster runs: a command that is told in time when the job has to end.

Slurm tells a job by a signal some time before its limit, and when another one takes its place. Then
the command writes down what it has, and the job is queued again under its old number.
"""

import contextlib
import os
import re
import shlex
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

__all__ = ["Command"]

_OF_THE_DRIVER = ("DVC_STAGE", "WSSS_PARENT")
# Lightning would ask Slurm for the number of processes, which torchrun or nobody has started
_OF_SLURM = ("SLURM_NTASKS", "SLURM_NTASKS_PER_NODE")
_MARGIN = 30  # seconds that are left to queue the job again
_RESTARTS = 3  # of all processes of a training, where one of them fails


class Command:
    """A command that submitit runs in a job; it ends with the command's exit code.

    Args:
        command: the program and its arguments.
        done: a file that is made when the command has ended well.
        environment: variables besides those of the job.
        prefix: what comes before, such as a container.
        ranks: processes per node that torchrun starts; 0 starts the command itself.
        notice: seconds between the signal and the end of the job.
    """

    def __init__(
        self,
        command: Sequence[str],
        done: Path,
        environment: Mapping[str, str],
        *,
        prefix: str = "",
        ranks: int = 0,
        notice: int = 120,
    ) -> None:
        self.command, self.done, self.environment = tuple(command), done, dict(environment)
        self.prefix, self.ranks, self.notice = prefix, ranks, notice
        self._process: subprocess.Popen[bytes] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_process": None}

    def __call__(self) -> None:
        """Run the command. Raises RuntimeError where it fails."""
        if self.done.exists():  # queued again after its last moment
            return
        environment = {
            name: value
            for name, value in os.environ.items()
            if name not in (*_OF_THE_DRIVER, *_OF_SLURM)
        } | self.environment
        command = [*shlex.split(self.prefix), *self._started_by_torchrun()]
        print(shlex.join(command), flush=True)
        # all processes of a job get the signal; who does not know it must not die of it
        self._process = subprocess.Popen(command, env=environment, preexec_fn=_deaf)
        code = self._process.wait()
        if code:
            name = signal.Signals(-code).name if code < 0 else f"exit code {code}"
            raise RuntimeError(f"the command ended with {name}")
        if int(os.environ.get("SLURM_PROCID", "0")) == 0:
            self.done.touch()

    def checkpoint(self) -> Any:
        """Let the command write down what it has; submitit then queues the job again."""
        from submitit.helpers import DelayedSubmission

        deadline = time.monotonic() + max(self.notice - _MARGIN, 5)
        process = self._process
        if process is not None and process.poll() is None:
            listening = [pid for pid in _below(process.pid) if _catches(pid, signal.SIGUSR1)]
            for pid in listening:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGUSR1)
            while any(map(_is_alive, listening)) and time.monotonic() < deadline:
                time.sleep(0.1)
            process.terminate()
            try:
                process.wait(max(deadline - time.monotonic(), 5))
            except subprocess.TimeoutExpired:
                process.kill()
        return DelayedSubmission(self)

    def _started_by_torchrun(self) -> list[str]:
        """The command, or as many of it as there are ranks, on all nodes of the job together."""
        if not self.ranks:
            return list(self.command)
        python, *rest = self.command
        nodes = int(os.environ.get("SLURM_JOB_NUM_NODES", "1"))
        options = [f"--nnodes={nodes}", f"--nproc-per-node={self.ranks}"]
        options.append(f"--max-restarts={_RESTARTS}")
        if nodes == 1:
            options.append("--standalone")
        else:
            from submitit import JobEnvironment

            job = int(os.environ["SLURM_JOB_ID"])
            first = JobEnvironment().hostnames[0]
            options += [f"--rdzv-id={job}", "--rdzv-backend=c10d"]
            options.append(f"--rdzv-endpoint={first}:{20000 + job % 20000}")
        return [python, "-m", "torch.distributed.run", *options, *rest]


def _deaf() -> None:
    for number in (signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)


def _below(pid: int) -> list[int]:
    """A process and all that it started, and these, and so on."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            text = stat.read_text()
            parent = int(text[text.rindex(")") + 1 :].split()[1])
            children.setdefault(parent, []).append(int(stat.parent.name))
    found = [pid]
    for at in found:
        found += children.get(at, [])
    return found


def _catches(pid: int, number: signal.Signals) -> bool:
    """Whether a process does something of its own at a signal."""
    with contextlib.suppress(OSError):
        caught = re.search(r"^SigCgt:\s*([0-9a-f]+)", Path(f"/proc/{pid}/status").read_text(), re.M)
        return bool(caught and int(caught[1], 16) >> (number - 1) & 1)
    return False


def _is_alive(pid: int) -> bool:
    with contextlib.suppress(OSError, IndexError):
        text = Path(f"/proc/{pid}/stat").read_text()
        return text[text.rindex(")") + 1 :].split()[0] != "Z"
    return False
