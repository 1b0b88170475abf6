"""A real Slurm of two small nodes on the loopback interface, in a folder of its own. Not a simulation.

Daemons are children of this process and end with it. The configuration has to lie in /etc/slurm, since the
job step of Snakemake's plugin drops SLURM_CONF; a configuration that is not ours is never touched.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil

CONFIGURATION = Path("/etc/slurm")
MARK = "# Written by tests/slurm/cluster.py; removed when the tests end."
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scancel")
NAME = "spatialdino-tests"
NODES = ("node1", "node2")
CPUS, MEMORY_MB = 8, 32000  # of each node; pretended, like its GPU
PR_SET_PDEATHSIG = 1


def why_not() -> str | None:
    """Why no Slurm can be started here, or None."""
    missing = [program for program in PROGRAMS if _path(program) is None]
    if missing:
        return f"{', '.join(missing)} not installed (Debian: slurmctld slurmd slurm-client munge)"
    if os.geteuid() != 0:
        return "Slurm's daemons have to be started by root"
    host = socket.gethostname().split(".")[0]
    if not _address(host).startswith("127."):
        return f"the host name {host} does not mean 127.0.0.1; a line in /etc/hosts would make it"
    written = CONFIGURATION / "slurm.conf"
    if written.exists() and MARK not in written.read_text():
        return f"{written} is that of another Slurm, which is left alone"
    return None


def _path(program: str) -> str | None:
    return shutil.which(program, path=os.environ["PATH"] + ":/usr/sbin:/sbin")


def _address(host: str) -> str:
    try:
        return socket.gethostbyname(host)
    except OSError:
        return ""


class Cluster:
    """Started by ``with``; partitions ``cpu`` and ``gpu``, a pretended GPU on each node."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.daemons: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Cluster:
        for name in ("state", "munge", *NODES):
            (self.folder / name).mkdir(parents=True)
        try:
            self._start_munge()
            self._configure()
            self._start("slurmctld", "-D", "-c")
            for node in NODES:
                self._start("slurmd", "-D", "-N", node)
            _wait(lambda: self.states() == {"idle"}, "all nodes to be idle")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self.daemons:
            subprocess.run(["scancel", "--user=root"], capture_output=True)
            _wait(lambda: not self.jobs(), "the last jobs to end", quiet=True)
        for daemon in reversed(self.daemons):
            daemon.send_signal(signal.SIGTERM)
            try:
                daemon.wait(20)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()
        _end_strays()
        for name in ("slurm.conf", "gres.conf"):
            written = CONFIGURATION / name
            if written.exists() and MARK in written.read_text():
                written.unlink()

    def states(self) -> set[str]:
        """States of the nodes."""
        return set(_output("sinfo", "-h", "-N", "-o", "%T"))

    def jobs(self) -> dict[str, str]:
        """Number of each waiting or running job to what it is, e.g. ``rule_track_wildcards_a``."""
        lines = _output("squeue", "-h", "-o", "%i %k")
        return dict(line.split(maxsplit=1) for line in lines)

    def set_node(self, node: str, state: str) -> None:
        """``drain`` (its jobs go on, no new ones), ``down`` (its jobs are lost) or ``resume``."""
        command = ["scontrol", "update", f"NodeName={node}", f"State={state}", "Reason=test"]
        # A node that is down may come back by itself; then there is nothing to resume.
        subprocess.run(command, check=state != "resume", capture_output=True)

    @contextlib.contextmanager
    def waiting(self, partition: str = "cpu") -> Iterator[None]:
        """Jobs of a partition are queued and not started."""
        command = ["scontrol", "update", f"PartitionName={partition}"]
        subprocess.run([*command, "State=DOWN"], check=True, capture_output=True)
        try:
            yield
        finally:
            subprocess.run([*command, "State=UP"], check=True, capture_output=True)

    def past(self) -> dict[str, dict[str, str]]:
        """All jobs that the controller remembers: number to the fields that ``scontrol`` shows."""
        found = {}
        for line in _output("scontrol", "--oneliner", "show", "job"):
            fields = dict(part.split("=", 1) for part in line.split() if "=" in part)
            found[fields.get("JobId", "")] = fields
        return found

    def _start_munge(self) -> None:
        folder = self.folder / "munge"
        key = folder / "munge.key"
        key.write_bytes(secrets.token_bytes(128))
        key.chmod(0o600)
        options = [f"--{name}-file={folder / name}" for name in ("pid", "log", "seed")]
        # --force: the folder of a test is closed to others, of which munge disapproves.
        self._start("munged", "-F", "--force", f"--socket={folder}/socket", f"--key-file={key}", *options)
        _wait(lambda: (folder / "socket").exists(), "munge")

    def _configure(self) -> None:
        host, ports = socket.gethostname().split(".")[0], [_free_port() for _ in range(1 + len(NODES))]
        nodes = [
            f"NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs={CPUS} "
            f"RealMemory={MEMORY_MB} Gres=gpu:1 State=UNKNOWN"
            for node, port in zip(NODES, ports[1:], strict=True)
        ]
        text = TEMPLATE.format(
            mark=MARK,
            name=NAME,
            host=host,
            folder=self.folder,
            port=ports[0],
            nodes="\n".join(nodes),
            all=",".join(NODES),
        )
        CONFIGURATION.mkdir(exist_ok=True)
        (CONFIGURATION / "slurm.conf").write_text(text)
        gpus = "\n".join(f"NodeName={node} Name=gpu File=/dev/null" for node in NODES)
        (CONFIGURATION / "gres.conf").write_text(f"{MARK}\n{gpus}\n")

    def _start(self, program: str, *arguments: str) -> None:
        log = (self.folder / f"{program}-{len(self.daemons)}.out").open("wb")
        path = _path(program)
        assert path is not None
        environment = {name: value for name, value in os.environ.items() if not name.startswith("SLURM")}
        self.daemons.append(
            subprocess.Popen(
                [path, *arguments],
                stdout=log,
                stderr=log,
                env=environment,
                preexec_fn=_end_with_parent,
                start_new_session=True,
            )
        )


def _end_strays() -> None:
    """End what jobs have left behind: without cgroups Slurm loses processes that have lost their parent."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get("SLURM_CLUSTER_NAME") == NAME:
                process.kill()


def _end_with_parent() -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _output(*command: str) -> list[str]:
    done = subprocess.run(command, text=True, capture_output=True)
    return done.stdout.splitlines() if done.returncode == 0 else []


def _wait(condition: Callable[[], bool], what: str, seconds: float = 60, quiet: bool = False) -> None:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            if quiet:
                return
            raise TimeoutError(f"waited {seconds:g} s for {what}")
        time.sleep(0.1)


def _free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return int(server.getsockname()[1])


# No cgroups: memory is watched by polling, and a job beyond its own is killed. Jobs start and end at once.
TEMPLATE = """{mark}
ClusterName={name}
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
SlurmctldPort={port}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=1
JobAcctGatherParams=OverMemoryKill
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerParameters=sched_interval=1,bf_interval=1,batch_sched_delay=0,sched_min_interval=0
ReturnToService=2
MpiDefault=none
SwitchType=switch/none
SlurmdParameters=config_overrides
MinJobAge=600
KillWait=2
OverTimeLimit=0
GresTypes=gpu
DefMemPerCPU=200
{nodes}
PartitionName=cpu Nodes={all} Default=YES MaxTime=24:00:00 DefaultTime=10 State=UP
PartitionName=gpu Nodes={all} Default=NO MaxTime=24:00:00 DefaultTime=10 State=UP
"""
