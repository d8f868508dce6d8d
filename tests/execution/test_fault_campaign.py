"""A short fault campaign; docs/faults.md describes the long one."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CAMPAIGN = Path(__file__).parents[2] / "benchmarks" / "faults.py"


def campaign(*arguments):
    """Run a campaign, whose exit code is 0 if it finds no fault."""
    return subprocess.run(
        [sys.executable, str(CAMPAIGN), *arguments],
        capture_output=True,
        text=True,
        timeout=1800,
        check=False,
    )


@pytest.mark.slow
def test_killed_runs_lose_no_results():
    ended = campaign("kills", "--n", "2")
    assert ended.returncode == 0, ended.stdout + ended.stderr


@pytest.mark.slow
def test_disk_that_cannot_be_written_to_is_reported():
    if not shutil.which("unshare") or subprocess.call(["unshare", "-rm", "true"]) != 0:
        pytest.skip("this machine has no user namespaces of Linux to mount file systems in")
    ended = campaign("disk", "--n", "3")
    assert ended.returncode == 0, ended.stdout + ended.stderr


@pytest.mark.slow
def test_misleading_studies_are_reported():
    ended = campaign("studies")
    assert ended.returncode == 0, ended.stdout + ended.stderr


@pytest.mark.slow
def test_damaged_input_is_refused_or_reported():
    ended = campaign("inputs", "--n", "8")
    assert ended.returncode == 0, ended.stdout + ended.stderr
