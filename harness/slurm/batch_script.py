"""The text of a batch script: workers of a sweep as a job array, or one run over several nodes.

People edit these scripts, so they are plain bash. Values are quoted; what must fit in one line is checked.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.errors import ConfigError, printable
from harness.launch.launch import ELASTIC, GRACE_SECONDS, RUN
from harness.slurm.job import WARNING_SECONDS, Job
from harness.slurm.site import Site

# Ports of runs: from here on, by the number of the job, so that two jobs on one node have different ones. Below the
# kernel's range of ports for outgoing connections (32768 and above).
FIRST_PORT, PORTS = 20_000, 12_000

# Bash ends `wait` when a trap has run, so that a worker that is saving its state has to be waited for again.
WAIT = """\
trap '{warn}' TERM
wait "$worker"
while kill -0 "$worker" 2> /dev/null; do wait "$worker"; done
wait "$worker"
code=$?
"""

# After the lines of a site file: with `set -e`, an interrupted worker would end the script before the job is requeued.
TOLERANT = "set +euo pipefail  # the exit codes below decide what follows"

SWEEP = """\
started=$(date +%s)

# A trial starts only if it is expected to end before Slurm's warning. Without these lines, trials run in parts.
task=${{SLURM_ARRAY_JOB_ID}}_$SLURM_ARRAY_TASK_ID  # one task has the number of the whole array as its SLURM_JOB_ID
end=$(squeue --noheader --jobs "$task" --format %e)
[[ $end = *T* ]] && fitting=(--end-by "$(($(date --date "$end" +%s) - {warning}))")

sweep=({sweep})
{harness} sweep run "${{sweep[@]}}" "${{fitting[@]}}"{words} &
worker=$!

# Slurm's warning is passed on: trials save their state, and the worker ends with 143.
{wait}
# The job is queued again while trials remain, unless it was cancelled, or the sweep was stopped or reached a limit.
{harness} slurm requeue "${{sweep[@]}}" --task "$task" --since "$started" --code "$code"
exit "$code"
"""

RUN_OVER_NODES = """\
# The first node is the meeting point. Two jobs on one node have different ports.
first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
address=$(scontrol show node "$first" | grep -o 'NodeAddr=[^ ]*' | cut -d = -f 2)
port=$(({first_port} + SLURM_JOB_ID % {ports}))
{environment}
run=({run})
# A node whose ranks have stopped waits for the others: the first failure of a node ends all of them.
srun --kill-on-bad-exit=1 bash -c {node} bash \\
    --nnodes "$SLURM_NNODES" --nproc-per-node {processes} --master-addr "$address" --master-port "$port" "${{run[@]}}" &
worker=$!

# Slurm's warning is passed on to the nodes by scancel; srun would kill them. The run saves its state and ends with
# 143, and the job is queued again to resume it.
{wait}
state=$(squeue --noheader --jobs "$SLURM_JOB_ID" --format %T)
[ "$code" = 143 ] && [ "$state" = RUNNING ] && scontrol requeue "$SLURM_JOB_ID"
exit "$code"
"""


@dataclass(frozen=True)
class Places:
    """Where a job runs and writes; absolute paths."""

    name: str
    working_folder: Path
    logs: Path  # folder of the output of its tasks
    comment: str  # by which its jobs are found in the queue


def sweep_script(job: Job, site: Site, places: Places, sweep: Sequence[str], words: Sequence[str]) -> str:
    """Workers of a sweep. `sweep` are its file, then options that all commands take; `words` only `sweep run`."""
    body = SWEEP.format(
        warning=WARNING_SECONDS,
        sweep=shlex.join(sweep),
        harness=f"{shlex.quote(sys.executable)} -m harness.cli",
        words=f" {shlex.join(words)}" if words else "",
        wait=WAIT.format(warn='kill -TERM "$worker" 2> /dev/null'),
    )
    limit = f"%{job.array_limit}" if job.array_limit else ""
    own = [f"--array=0-{job.tasks - 1}{limit}", "--nodes=1", "--ntasks=1"]
    return _script(job, site, places, own, "%A_%a.log", body)


def run_script(job: Job, site: Site, places: Places, words: Sequence[str]) -> str:
    """One run with a process per GPU on each node; on a CPU, with one process per node."""
    processes = max(1, job.gpu_count)
    environment = [] if job.gpu_count else ["export ACCELERATE_USE_CPU=true"]
    if job.cpus:
        environment.append(f"export OMP_NUM_THREADS={max(1, job.cpus // processes)}")
    elastic = shlex.join([sys.executable, *ELASTIC[1:], "torch.distributed.run"])
    body = RUN_OVER_NODES.format(
        first_port=FIRST_PORT,
        ports=PORTS,
        environment="".join(f"{line}\n" for line in environment),
        run=shlex.join([str(RUN), *words]),
        node=shlex.quote(
            f'trap : TERM; {elastic} --node-rank "$SLURM_NODEID" "$@"; code=$?; '
            f'[ "$code" = 143 ] && sleep {GRACE_SECONDS:.0f}; exit "$code"'
        ),
        processes=processes,
        wait=WAIT.format(warn='scancel --signal=TERM "$SLURM_JOB_ID"'),
    )
    own = [f"--nodes={job.nodes}", "--ntasks-per-node=1"]
    return _script(job, site, places, own, "%j.log", body)


def _script(job: Job, site: Site, places: Places, own: list[str], log: str, body: str) -> str:
    # "%" in a file name pattern of Slurm begins a replacement.
    pattern = str(places.logs).replace("%", "%%") + f"/{log}"
    options = [f"--job-name={places.name}", *own, f"--time={job.time}"]
    options += [f"--gres=gpu:{job.gpus}"] * bool(job.gpu_count) + [f"--cpus-per-task={job.cpus}"] * bool(job.cpus)
    options += [f"--partition={job.partition}"] * bool(job.partition) + [f"--account={job.account}"] * bool(job.account)
    options += [f"--chdir={places.working_folder}", f"--output={pattern}", "--open-mode=append", "--requeue"]
    options += [f"--signal=B:TERM@{WARNING_SECONDS}", f"--comment={places.comment}"]
    if broken := [option for option in options if not option.isprintable()]:
        raise ConfigError(f"A line of a batch script cannot contain {printable(option)!r}." for option in broken)
    lines = [
        "#!/bin/bash",
        "# Edit this script as the site needs, then submit it (harness sweep status finds its jobs by --comment):",
        f"#   mkdir -p {shlex.quote(str(places.logs))} && sbatch SCRIPT",
        *(f"#SBATCH {_quoted(option)}" for option in options),
        *(f"#SBATCH {option}" for option in site.sbatch),
        "",
        *([f"module load {shlex.join(site.modules)}"] if site.modules else []),
        *site.lines,
        *([TOLERANT] if site.lines else []),
    ]
    return "\n".join(lines) + ("\n\n" if lines[-1] else "\n") + body


def _quoted(option: str) -> str:
    """An option as a word of an #SBATCH line: --output='my runs/%j.log'."""
    name, equals, value = option.partition("=")
    return f"{name}{equals}{shlex.quote(value)}" if equals else shlex.quote(name)
