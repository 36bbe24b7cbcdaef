"""A real SLURM on one machine: munged, slurmctld and two slurmd (virtual nodes n1 and n2) on loopback, in one folder.
Jobs of the partition `urgent` take the nodes from those of `one`, which have 30 s to end.

Debian's packages slurmctld, slurmd, slurm-client and munge, as root; nothing outside of the folder is changed.
"""

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

NEEDED = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scancel", "scontrol", "sinfo", "squeue")

CONF = """\
ClusterName=one
FirstJobId={ports[0]}
SlurmctldHost={here}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket,cred_expire=5
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
MpiDefault=none
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_interval=2,bf_interval=2,requeue_setup_env_fail
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
KillWait=10
MessageTimeout=30
SlurmdTimeout=60
SlurmdParameters=config_overrides
InactiveLimit=0
MinJobAge=600
OverTimeLimit=2
JobRequeue=1
GresTypes=gpu
NodeName=n1 NodeHostname={here} NodeAddr=127.0.0.1 Port={ports[1]} CPUs=8 RealMemory=1000 Gres=gpu:4 State=UNKNOWN
NodeName=n2 NodeHostname={here} NodeAddr=127.0.0.1 Port={ports[2]} CPUs=8 RealMemory=1000 Gres=gpu:4 State=UNKNOWN
PartitionName=one Nodes=n1,n2 Default=YES PriorityTier=1 GraceTime=30 MaxTime=30 DefaultTime=10 State=UP
PartitionName=urgent Nodes=n1,n2 PriorityTier=10 PreemptMode=OFF MaxTime=30 DefaultTime=10 State=UP
"""


def missing() -> str | None:
    """Why there can be no SLURM here; None where there can."""
    lacking = [name for name in NEEDED if shutil.which(name) is None]
    if lacking:
        return f"{', '.join(lacking)}: not here (Debian: apt-get install slurmctld slurmd slurm-client munge)"
    return None if os.geteuid() == 0 else "SLURM's daemons need root"


class OneMachine:
    """The cluster while it is up."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.env = {"SLURM_CONF": str(folder / "slurm.conf")}

    def __call__(self, *command: object, **env: str) -> str:
        """Run one of SLURM's programs; what it prints."""
        words = [str(word) for word in command]
        result = subprocess.run(
            words, env={**os.environ, **self.env, **env}, capture_output=True, text=True, timeout=60
        )
        assert result.returncode == 0, (words, result.stdout, result.stderr)
        return result.stdout.strip()

    def job(self, number: str) -> dict[str, str]:
        """What SLURM knows of a job: JobState, Restarts, ExitCode and others."""
        return dict(word.split("=", 1) for word in self("scontrol", "show", "job", number).split() if "=" in word)

    def up(self) -> None:
        folder = self.folder
        for name in ("state", "spool-n1", "spool-n2", "munge"):
            (folder / name).mkdir()
        folder.chmod(0o755)
        (folder / "munge/key").write_bytes(os.urandom(1024))
        (folder / "munge/key").chmod(0o400)
        (folder / "munge").chmod(0o711)
        for k in range(4):  # GPUs in name only: the shipped scripts ask for some
            (folder / f"gpu{k}").touch()
        (folder / "gres.conf").write_text(f"Name=gpu File={folder}/gpu[0-3]\n")
        here = socket.gethostname().partition(".")[0]
        (folder / "slurm.conf").write_text(CONF.format(here=here, folder=folder, ports=_free_ports(3)))
        munge = [f"--{name}-file={folder}/munge/{name}" for name in ("key", "pid", "log", "seed")]
        self("munged", "--force", f"--socket={folder}/munge/socket", *munge, "--num-threads=2")
        self.start_controller("-c")
        for node in ("n1", "n2"):
            self("slurmd", "-f", folder / "slurm.conf", "-N", node)
        end = time.monotonic() + 60
        while self("sinfo", "-h", "-N", "-p", "one", "-o", "%N %T").split() != ["n1", "idle", "n2", "idle"]:
            assert time.monotonic() < end, self.logs()
            time.sleep(0.2)

    def start_controller(self, *options: str) -> None:
        """Again, or with -c for the first time."""
        self("slurmctld", "-f", self.folder / "slurm.conf", *options)

    def kill_controller(self) -> None:
        """As a crash of its machine does."""
        os.kill(int((self.folder / "slurmctld.pid").read_text()), 9)

    def down(self) -> None:
        with contextlib.suppress(AssertionError, subprocess.TimeoutExpired):
            self("scancel", "--user=root")
            time.sleep(1)
        for name in ("slurmd-n1.pid", "slurmd-n2.pid", "slurmctld.pid", "munge/pid"):
            if not (self.folder / name).exists():
                continue
            pid = int((self.folder / name).read_text())
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, 15)
                for _ in range(50):
                    os.kill(pid, 0)
                    time.sleep(0.1)
                os.kill(pid, 9)

    def logs(self) -> str:
        """The ends of the daemons' log files."""
        return "\n".join(f"{p.name}: {p.read_text()[-1500:]}" for p in sorted(self.folder.glob("*.log")))


@contextlib.contextmanager
def one_machine() -> Iterator[OneMachine]:
    """Bring it up, and down again."""
    folder = Path(tempfile.mkdtemp(prefix="slurm-"))  # a short path: munge's socket has one
    cluster = OneMachine(folder)
    try:
        cluster.up()
        yield cluster
    finally:
        cluster.down()
        shutil.rmtree(folder, ignore_errors=True)


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
