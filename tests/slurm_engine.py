"""A SLURM of one machine: munged, slurmctld and slurmd, on loopback, in a folder of their own."""

import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from engines import running, wait_for

CONFIGURATION = """
ClusterName=pairscape
SlurmctldHost=localhost(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
SlurmUser=root
SlurmdUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=batch_sched_delay=0,sched_interval=1
SlurmdParameters=config_overrides
ReturnToService=2
KillWait=2
MpiDefault=none
NodeName=localhost NodeHostname={host} NodeAddr=127.0.0.1 CPUs=16 RealMemory=64000 State=UNKNOWN
PartitionName=main Nodes=localhost Default=YES MaxTime=INFINITE State=UP
"""


@dataclass(frozen=True)
class Slurm:
    """How to talk to it."""

    folder: Path
    environment: dict[str, str]

    def __call__(self, *command: str) -> str:
        environment = {**os.environ, **self.environment}
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout

    def jobs(self, name: str, state: str = "RUNNING") -> list[str]:
        """Numbers of the jobs of that name in that state, oldest first."""
        found = self("squeue", "--noheader", "--name", name, "--states", state, "--format", "%i", "--sort", "i")
        return found.split()


@contextmanager
def slurm(folder: Path) -> Iterator[Slurm]:
    """Started in a second or two, stopped with the block, its jobs with it."""
    for name in ("state", "spool"):
        (folder / name).mkdir(parents=True)
    (folder / "slurm.conf").write_text(
        CONFIGURATION.format(folder=folder, ports=_free_ports(2), host=socket.gethostname().split(".")[0])
    )
    (folder / "munge.key").write_bytes(os.urandom(128))
    (folder / "munge.key").chmod(0o400)
    found = Slurm(folder, {"SLURM_CONF": str(folder / "slurm.conf")})
    munge = [f"--{name}={folder / f'munge.{name}'}" for name in ("socket",)] + [
        f"--key-file={folder}/munge.key", f"--log-file={folder}/munge.log", f"--pid-file={folder}/munge.pid",
        f"--seed-file={folder}/munge.seed",
    ]  # fmt: skip
    with ExitStack() as stack:

        def start(*command: str) -> None:
            stack.enter_context(running(*command, log=folder / f"{command[0]}.log", environment=found.environment))

        start("munged", "--foreground", "--force", *munge)
        wait_for((folder / "munge.socket").exists, "munged")
        start("slurmctld", "-D", "-c")
        start("slurmd", "-D", "-N", "localhost")
        wait_for(lambda: "idle" in _sinfo(found), f"slurmd ({folder})")
        try:
            yield found
        finally:
            found("scancel", "--full", "--user", "root")
            wait_for(lambda: not found("squeue", "--noheader").strip(), "end of the jobs")


def _sinfo(found: Slurm) -> str:
    done = subprocess.run(
        ["sinfo", "--noheader", "--format", "%t"], env={**os.environ, **found.environment},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return done.stdout


def _free_ports(n: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(n)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
