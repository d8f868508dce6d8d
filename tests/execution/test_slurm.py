"""A real SLURM with two nodes on this machine: cancelled jobs and failing nodes do not change the
results.
"""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

PATIENCE = 300  # s


@pytest.fixture(scope="module")
def slurm(shared, tmp_path_factory):
    """Folder of a running SLURM, to which SLURM_CONF points; skipped if none can be started."""
    scripts = shared / "slurm"
    folder = tmp_path_factory.mktemp("slurm")
    if os.geteuid() != 0 or not scripts.is_dir():
        pytest.skip("starting SLURM needs root and the folder slurm of the shared test data")
    start = ["bash", str(scripts / "slurm_up.sh"), str(folder)]
    port = {"SLURM_PORT0": str(20000 + os.getpid() % 20000)}
    try:
        started = subprocess.run(
            start, env=os.environ | port, capture_output=True, text=True, timeout=240, check=False
        )
    except subprocess.TimeoutExpired:
        pytest.skip("SLURM did not start within 4 minutes")
    if started.returncode != 0:
        pytest.skip(f"SLURM did not start: {(started.stderr or started.stdout).strip()[-300:]}")
    yield folder
    subprocess.run(
        ["bash", str(scripts / "slurm_down.sh"), str(folder), "--purge"],
        capture_output=True,
        check=False,
    )


@pytest.mark.slow
def test_demo_on_two_nodes_with_a_cancelled_job_and_a_dead_node(demo, slurm, tmp_path):
    out = tmp_path / "out"
    plugin = tmp_path / "plugin.yml"
    plugin.write_text("plugin: SLURM\nplugin_args:\n  sbatch_args: --time=30\n")
    command = [sys.executable, "-m", "multiqsm", str(demo[0] / "raw"), str(out), "participant"]
    command += ["--use-plugin", str(plugin), "--participant-label", "01"]
    environment = os.environ | {"SLURM_CONF": str(slurm / "slurm.conf")}
    log = tmp_path / "log"
    with (
        log.open("w") as stream,
        subprocess.Popen(
            [*command, "-w", str(tmp_path / "work")], env=environment, stdout=stream, stderr=stream
        ) as run,
    ):
        try:
            cancelled = wait_for(lambda: running(environment, "n1"), run)[0]
            subprocess.run(["scancel", cancelled], env=environment, check=True)
            wait_for(lambda: running(environment, "n2"), run)
            killed = running(environment, "n2")
            kill_node(slurm, "n2", killed)
            assert run.wait(timeout=20 * 60) == 0, log.read_text()
        finally:
            run.kill()
    output = log.read_text()
    assert f"SLURM ended job {cancelled} on n1 as CANCELLED; it is started again (1 of 2)" in output
    started_again = re.findall(r"ended job (\d+) on n2 as NODE_FAIL; it is started again", output)
    assert set(started_again) & set(killed), output
    assert "6 scans processed, 0 failed, 0 left out" in output
    assert_same_results(demo[0] / "derivatives" / "sub-01", out / "sub-01")


def running(environment, node):
    """Numbers of the jobs that run on a node."""
    command = ["squeue", "-h", "-t", "R", "-w", node, "-o", "%i"]
    queue = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return queue.stdout.split()


def wait_for(condition, run):
    """Return the value of a condition as soon as it is true; fail if the run ends before."""
    for _ in range(PATIENCE):
        if value := condition():
            return value
        assert run.poll() is None, "the run has ended already"
        time.sleep(1)
    pytest.fail(f"nothing happened for {PATIENCE} s")


def kill_node(slurm, node, jobs):
    """Kill a node's daemon and its jobs at once, as a power failure would."""
    pids = [int((slurm / "run" / f"slurmd.{node}.pid").read_text())]
    for pid, (_, command) in processes().items():
        if any(command.startswith(f"slurmstepd: [{job}.") for job in jobs):
            pids += [pid, *descendants(pid)]
    for pid in pids:
        os.kill(pid, signal.SIGKILL)


def descendants(pid):
    """Processes that a process has started, directly or not."""
    pids = []
    for child, (parent, _) in processes().items():
        if parent == pid:
            pids += [child, *descendants(child)]
    return pids


def processes():
    """Parent and command line of each process of the machine."""
    table = {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((path / "stat").read_text().rsplit(")", 1)[1].split()[1])
            table[int(path.name)] = parent, (path / "cmdline").read_text().replace("\0", " ")
        except (OSError, IndexError):  # it has just ended
            continue
    return table


def assert_same_results(expected, actual):
    """Compare images, tables and sidecars of a subject byte by byte."""
    kinds = (".gz", ".tsv", ".txt", ".json")

    def names(root):
        return {path.relative_to(root) for path in root.rglob("*") if path.suffix in kinds}

    assert names(actual) == names(expected) != set()
    for name in names(expected):
        assert (expected / name).read_bytes() == (actual / name).read_bytes(), name
