"""A Slurm of one node with two pretended GPUs, on this machine: the real daemons, for tests.

Nothing of a cluster that may be installed here is touched: ports, folders and the key are its own.
"""

import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

__all__ = ["SlurmNode", "slurm"]

PROGRAMS = ("sbatch", "slurmctld", "slurmd", "munged")

CONF = """\
ClusterName=tests
SlurmctldHost={host}(127.0.0.1)
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket,cred_expire=5
CryptoType=crypto/munge
SlurmUser=root
SlurmctldPort={port}
SlurmdPort={node_port}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_interval=1,sched_min_interval=0,bf_interval=1
ReturnToService=2
MpiDefault=none
KillWait=5
GresTypes=gpu
JobRequeue=1
NodeName={host} NodeAddr=127.0.0.1 CPUs=8 Boards=1 SocketsPerBoard=1 CoresPerSocket=8 \\
ThreadsPerCore=1 RealMemory=1000 State=UNKNOWN Gres=gpu:2
PartitionName=tests Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""
# SlurmdParameters=config_overrides lets the node have more cores than the machine
CONF += "SlurmdParameters=config_overrides\n"


@dataclass(frozen=True)
class SlurmNode:
    """A running Slurm.

    Attributes:
        folder: of its files and logs.
        environment: what commands need, besides that of this process.
    """

    folder: Path
    environment: dict[str, str]

    def run(self, *command: str) -> str:
        """What one of its commands prints."""
        done = subprocess.run(
            command, env=os.environ | self.environment, capture_output=True, text=True, check=True
        )
        return done.stdout

    def jobs(self) -> dict[str, str]:
        """The states of jobs in the queue, by id."""
        lines = self.run("squeue", "--noheader", "--array", "--format=%i %T").splitlines()
        return {line.split()[0]: line.split()[1] for line in lines}

    def wait(self, seconds: float = 60) -> None:
        """Wait until no job is left."""
        deadline = time.monotonic() + seconds
        while self.jobs():
            assert time.monotonic() < deadline, self.jobs()
            time.sleep(0.2)


@pytest.fixture(scope="session")
def slurm() -> Iterator[SlurmNode]:
    """A Slurm of one node; without one the test is skipped, and says why."""
    _install()
    folder = Path(tempfile.mkdtemp(prefix="wsss-slurm-"))
    folder.chmod(0o755)  # the user munge has to come to its own below it
    started: list[subprocess.Popen[bytes]] = []
    environment = {"SLURM_CONF": str(folder / "slurm.conf")}
    try:
        started.append(_munge(folder))
        _configure(folder)
        host = socket.gethostname()
        started.append(_start(folder, ["slurmctld", "-D"], environment))
        started.append(_start(folder, ["slurmd", "-D", "-N", host], environment))
        node = SlurmNode(folder, environment)
        _wait_until_idle(node, started)
        yield node
        subprocess.run(
            ["scancel", "--user", str(os.getuid())],
            env=os.environ | environment,
            capture_output=True,
            check=False,
        )
    finally:
        for process in reversed(started):
            process.send_signal(signal.SIGTERM)
        for process in reversed(started):
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
        shutil.rmtree(folder, ignore_errors=True)


def _install() -> None:
    """See that Slurm's programs are there, by apt where that may be."""
    missing = [name for name in PROGRAMS if _which(name) is None]
    if not missing:
        return
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        pytest.skip(
            f"there is no {', '.join(missing)}, and only root installs it: apt-get install "
            "slurm-wlm munge"
        )
    command = ["apt-get", "install", "-y", "-q", "--no-install-recommends", "slurm-wlm", "munge"]
    quiet = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    try:
        subprocess.run(
            ["apt-get", "update", "-q"], env=quiet, capture_output=True, check=False, timeout=120
        )
        done = subprocess.run(
            command, env=quiet, capture_output=True, text=True, check=False, timeout=300
        )
    except subprocess.TimeoutExpired as error:
        pytest.skip(f"apt-get does not come to an end: {error}")
    if done.returncode or any(_which(name) is None for name in PROGRAMS):
        pytest.skip(f"apt-get does not install slurm-wlm and munge: {done.stderr.strip()[-300:]}")


def _which(name: str) -> str | None:
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


def _start(
    folder: Path, command: list[str], environment: dict[str, str]
) -> "subprocess.Popen[bytes]":
    """Start a daemon in the foreground; what it says goes to a file."""
    program = _which(command[0])
    assert program is not None
    with (folder / f"{command[0]}.out").open("ab") as said:
        return subprocess.Popen(
            [program, *command[1:]],
            env=os.environ | environment,
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def _munge(folder: Path) -> "subprocess.Popen[bytes]":
    """Start the daemon that says who is who, as its own user where this one is root."""
    place = folder / "munge"
    place.mkdir(mode=0o755)
    (place / "key").write_bytes(secrets.token_bytes(1024))
    (place / "key").chmod(0o400)
    options = [f"--{name}-file={place / name}" for name in ("key", "pid", "log", "seed")]
    command = ["munged", "--foreground", "--force", f"--socket={place / 'socket'}", *options]
    if os.geteuid() == 0:
        shutil.chown(place, "munge")
        shutil.chown(place / "key", "munge")
        program = _which("munged")
        assert program is not None
        command = ["setpriv", "--reuid=munge", "--regid=munge", "--clear-groups", program]
        command += ["--foreground", "--force", f"--socket={place / 'socket'}", *options]
    process = _start(folder, command, {})
    _wait_for(lambda: (place / "socket").exists(), "munged", process, folder)
    return process


def _configure(folder: Path) -> None:
    host = socket.gethostname()
    ports = [_free_port(), _free_port()]
    text = CONF.format(host=host, folder=folder, port=ports[0], node_port=ports[1])
    made = [["mknod", str(folder / f"fake{at}"), "c", "1", "3"] for at in range(2)]
    if all(
        subprocess.run(one, check=False, stderr=subprocess.DEVNULL).returncode == 0 for one in made
    ):
        # so that a job is told which of them it has; not all containers may make devices
        (folder / "gres.conf").write_text(f"NodeName={host} Name=gpu File={folder}/fake[0-1]\n")
    else:
        (folder / "gres.conf").write_text(f"NodeName={host} Name=gpu Count=2\n")
    (folder / "slurm.conf").write_text(text)
    for name in ("state", "spool"):
        (folder / name).mkdir()


def _wait_until_idle(node: SlurmNode, started: list["subprocess.Popen[bytes]"]) -> None:
    def is_idle() -> bool:
        done = subprocess.run(
            ["sinfo", "--noheader", "--format=%T"],
            env=os.environ | node.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        return done.stdout.strip() == "idle"

    _wait_for(is_idle, "Slurm", started[-1], node.folder)


def _wait_for(is_up: object, what: str, process: "subprocess.Popen[bytes]", folder: Path) -> None:
    """Wait until something is up; skip the test where it does not come up, with its last words."""
    deadline = time.monotonic() + 60
    while not is_up():  # type: ignore[operator]
        if process.poll() is not None or time.monotonic() > deadline:
            logs = [*sorted(folder.glob("*.out")), *sorted(folder.glob("*.log"))]
            said = "\n".join(log.read_text(errors="replace")[-500:] for log in logs)
            pytest.skip(f"{what} does not start on this machine: {said}")
        time.sleep(0.1)


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
