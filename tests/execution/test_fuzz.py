"""A short run of the fuzzer; docs/faults.md describes the long one."""

import subprocess
import sys
from pathlib import Path

FUZZER = Path(__file__).parents[2] / "benchmarks" / "fuzz.py"


def test_perturbed_files_are_read_or_refused_with_a_message():
    ended = subprocess.run(
        [sys.executable, str(FUZZER), "--n", "25", "--seed", "0"],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "0 kinds of fault" in ended.stdout
