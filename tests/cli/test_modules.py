"""The modules of the commands can be run with ``python -m``."""

import subprocess
import sys

import pytest

from multiqsm import __version__


@pytest.mark.parametrize("module", ["app", "audit", "demo", "simulate"])
def test_module_runs_its_command(module):
    command = [sys.executable, "-m", f"multiqsm.cli.{module}", "--version"]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["multiqsm", __version__]
