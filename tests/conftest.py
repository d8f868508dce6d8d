"""Fixtures that several tests share."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers.analytic import sphere_field
from helpers.datasets import SCANNER, write_dataset

# These keep all cores busy by themselves, or wait for other processes of the machine. They run
# one after the other, and first.
WHOLE_MACHINE = ("cli/test_demo.py", "execution/test_slurm.py", "execution/test_fault_campaign.py")


def file_of(nodeid):
    """Return a test's file, relative to this folder."""
    return nodeid.split("::")[0].removeprefix("tests/")


def pytest_collection_modifyitems(items):
    """Run the files with slow tests first."""
    slow = set()
    for item in items:
        if item.get_closest_marker("slow"):
            slow.add(file_of(item.nodeid))

    def priority(item):
        file = file_of(item.nodeid)
        return file not in WHOLE_MACHINE, file not in slow

    items.sort(key=priority)


@pytest.hookimpl(optionalhook=True)  # without pytest-xdist the tests run one after the other
def pytest_xdist_make_scheduler(config, log):
    """Distribute the tests to processes by files, whose tests share costly fixtures."""
    from xdist.scheduler import LoadScopeScheduling

    class ByFiles(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            return "the whole machine" if file_of(nodeid) in WHOLE_MACHINE else file_of(nodeid)

    config.option.loadscopereorder = False  # they are in order
    return ByFiles(config, log)


@pytest.fixture(scope="session")
def shared():
    """Folder of data that are not part of the checkout; without it the test is skipped."""
    folder = Path(os.environ.get("MULTIQSM_SHARED", Path(__file__).parents[2] / "shared"))
    if not folder.is_dir():
        pytest.skip(f"no folder {folder}: set MULTIQSM_SHARED to the folder of shared test data")
    return folder


@pytest.fixture
def copy_case(shared, tmp_path):
    """Copy one of the cases among the shared data, by its name; return the copy's root."""

    def copy(name):
        if not (shared / "cases" / name).is_dir():
            pytest.skip(f"no case {name} among the shared data")
        return shutil.copytree(shared / "cases" / name, tmp_path / name)

    return copy


@pytest.fixture
def make_dataset(tmp_path):
    """Write a small multi-echo BIDS dataset; the options are those of `write_dataset`."""

    def make(name="raw", **options):
        return write_dataset(tmp_path / name, **options)

    return make


@pytest.fixture(scope="session")
def ball_head():
    """A head that the whole pipeline can process in a second: options for `write_dataset`.

    A ball of brain, a ball of iron in it, air below it; tilted by 10 degrees, anisotropic,
    odd-sized.
    """
    shape = (33, 32, 27)
    voxel_size = (2.5, 2.5, 3)
    tilt = np.radians(10)
    affine = np.eye(4)
    affine[:3, :3] = [
        [1, 0, 0],
        [0, np.cos(tilt), -np.sin(tilt)],
        [0, np.sin(tilt), np.cos(tilt)],
    ] @ np.diag(voxel_size)
    b0_dir = (0, np.sin(tilt), np.cos(tilt))
    iron, _ = sphere_field(shape, voxel_size, b0_dir, radius=8, chi=0.3, center=(5, 0, 3))
    air, _ = sphere_field(shape, voxel_size, b0_dir, radius=8, chi=9, center=(0, 0, -50))
    _, brain = sphere_field(shape, voxel_size, b0_dir, radius=33, chi=0)
    noise = np.random.default_rng(0)

    def voxels(part, echo_time):
        phase = 0.5 + 2 * np.pi * SCANNER["ImagingFrequency"] * (iron + air) * echo_time
        signal = 100 * brain * np.exp(-20 * echo_time + 1j * phase)
        signal = signal + noise.normal(0, 1, shape) + 1j * noise.normal(0, 1, shape)
        image = {"mag": np.abs, "phase": np.angle, "real": np.real, "imag": np.imag}[part](signal)
        return image.astype(np.float32)

    return {"shape": shape, "affine": affine, "voxels": voxels}


@pytest.fixture(scope="session")
def demo(tmp_path_factory):
    """Folder and output of the demo, run with a relative path as in the README."""
    folder = tmp_path_factory.mktemp("study")
    command = [
        sys.executable,
        "-c",
        "from multiqsm.cli.demo import main; raise SystemExit(main(['demo']))",
    ]
    process = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
    return folder / "demo", process.stdout
