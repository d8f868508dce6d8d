"""The modules of the commands can be run with ``python -m``, and their help says where to read
more.
"""

import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from multiqsm import __version__

ROOT = Path(__file__).parents[2]
MODULES = ("app", "audit", "demo", "simulate")


@pytest.mark.parametrize("module", MODULES)
def test_module_runs_its_command(module):
    command = [sys.executable, "-m", f"multiqsm.cli.{module}", "--version"]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["multiqsm", __version__]


@pytest.mark.parametrize("module", MODULES)
def test_help_ends_with_pages_that_the_source_distribution_has(module, capsys):
    with pytest.raises(SystemExit):
        import_module(f"multiqsm.cli.{module}").main(["--help"])
    end = capsys.readouterr().out.partition("documentation: ")[2]
    pages = re.findall(r"[\w/]+\.md", end)
    assert "of the source distribution" in end
    assert pages
    manifest = (ROOT / "MANIFEST.in").read_text()
    assert "README.md" in manifest
    assert "recursive-include docs *.md" in manifest
    for page in pages:
        assert (ROOT / page).is_file()
