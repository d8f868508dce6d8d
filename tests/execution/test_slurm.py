"""A real SLURM of two nodes on this machine: jobs that are cancelled and nodes that die cost time,
and nothing else.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

PATIENCE = 300  # s


@pytest.fixture(scope="module")
def slurm(shared, tmp_path_factory):
    """Folder of a running SLURM, to which SLURM_CONF points the commands; skipped where none can be
    started.
    """
    scripts, folder = shared / "slurm", tmp_path_factory.mktemp("slurm")
    if os.geteuid() != 0 or not scripts.is_dir():
        pytest.skip("starting a SLURM takes root and the folder slurm of the shared test data")
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
    raw, by_processes, out = demo[0] / "raw", demo[0] / "derivatives", tmp_path / "out"
    plugin = tmp_path / "plugin.yml"
    plugin.write_text("plugin: SLURM\nplugin_args:\n  sbatch_args: --time=30\n")
    command = [
        sys.executable,
        "-m",
        "multiqsm",
        str(raw),
        str(out),
        "participant",
        "--use-plugin",
        str(plugin),
    ]
    command += ["--participant-label", "01"]
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
            fell = running(environment, "n2")
            kill_node(slurm, "n2", fell)
            assert run.wait(timeout=20 * 60) == 0, log.read_text()
        finally:
            run.kill()
    told = log.read_text()
    assert f"SLURM ended job {cancelled} on n1 as CANCELLED; it starts again (1 of 2)" in told
    assert any(
        f"SLURM ended job {job} on n2 as NODE_FAIL; it starts again" in told for job in fell
    ), told
    assert "6 scans processed, 0 failed, 0 left out" in told
    assert_same_results(by_processes / "sub-01", out / "sub-01")


def running(environment, node):
    """Jobs that run on a node."""
    command = ["squeue", "-h", "-t", "R", "-w", node, "-o", "%i"]
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, check=True
    ).stdout.split()


def wait_for(ask, run):
    """Ask until there is an answer, for as long as the run goes on."""
    for _ in range(PATIENCE):
        if answer := ask():
            return answer
        assert run.poll() is None, "the run has ended already"
        time.sleep(1)
    pytest.fail(f"nothing happened for {PATIENCE} s")


def kill_node(slurm, node, jobs):
    """Kill a node's daemon and all that runs on it, at once, as when its power fails."""
    doomed = [int((slurm / "run" / f"slurmd.{node}.pid").read_text())]
    for pid, (_, command) in processes().items():
        if any(command.startswith(f"slurmstepd: [{job}.") for job in jobs):
            doomed += [pid, *descendants(pid)]
    for pid in doomed:
        os.kill(pid, signal.SIGKILL)


def descendants(pid):
    """Processes that a process has started, and those that they have."""
    children = [child for child, (parent, _) in processes().items() if parent == pid]
    return children + [far for child in children for far in descendants(child)]


def processes():
    """Parent and command line of each process of the machine."""
    found = {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((path / "stat").read_text().rsplit(")", 1)[1].split()[1])
            found[int(path.name)] = parent, (path / "cmdline").read_text().replace("\0", " ")
        except (OSError, IndexError):  # it has just ended
            continue
    return found


def assert_same_results(expected, found):
    """Compare images, tables and sidecars of a subject byte by byte."""
    kinds = (".gz", ".tsv", ".txt", ".json")

    def names(root):
        return {path.relative_to(root) for path in root.rglob("*") if path.suffix in kinds}

    assert names(found) == names(expected) != set()
    for name in names(expected):
        assert (expected / name).read_bytes() == (found / name).read_bytes(), name
