"""A short fault campaign; the long one is in docs/faults.md."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CAMPAIGN = Path(__file__).parents[2] / "benchmarks" / "faults.py"


def campaign(*arguments):
    """Run a campaign; it ends with 0 if it has found no fault."""
    return subprocess.run(
        [sys.executable, str(CAMPAIGN), *arguments],
        capture_output=True,
        text=True,
        timeout=1800,
        check=False,
    )


@pytest.mark.slow
def test_runs_that_are_killed_lose_nothing():
    ended = campaign("kills", "--n", "2")
    assert ended.returncode == 0, ended.stdout + ended.stderr


@pytest.mark.slow
def test_a_disk_that_cannot_be_written_to_is_named():
    if (
        not shutil.which("unshare")
        or subprocess.run(["unshare", "-rm", "true"], check=False).returncode
    ):
        pytest.skip(
            "file systems can be mounted in a user namespace of Linux only, which this machine has "
            "not"
        )
    ended = campaign("disk", "--n", "3")
    assert ended.returncode == 0, ended.stdout + ended.stderr


@pytest.mark.slow
def test_studies_that_mislead_are_told_of():
    ended = campaign("studies")
    assert ended.returncode == 0, ended.stdout + ended.stderr


@pytest.mark.slow
def test_damaged_input_is_refused_or_named():
    ended = campaign("inputs", "--n", "8")
    assert ended.returncode == 0, ended.stdout + ended.stderr
