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

# They keep all cores busy by themselves, or wait for what happens on a machine: one after the
# other, and first.
WHOLE_MACHINE = ("cli/test_demo.py", "execution/test_slurm.py", "execution/test_fault_campaign.py")


def file_of(nodeid):
    """A test's file below this folder."""
    return nodeid.split("::")[0].removeprefix("tests/")


def pytest_collection_modifyitems(items):
    """The long ones first."""
    slow = {file_of(item.nodeid) for item in items if item.get_closest_marker("slow")}
    items.sort(
        key=lambda item: (
            file_of(item.nodeid) not in WHOLE_MACHINE,
            file_of(item.nodeid) not in slow,
        )
    )


@pytest.hookimpl(optionalhook=True)  # without pytest-xdist the tests run one after the other
def pytest_xdist_make_scheduler(config, log):
    """Share the tests out to processes by files, whose tests share what is costly to make."""
    from xdist.scheduler import LoadScopeScheduling

    class ByFiles(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            return "the whole machine" if file_of(nodeid) in WHOLE_MACHINE else file_of(nodeid)

    config.option.loadscopereorder = False  # they are in order
    return ByFiles(config, log)


@pytest.fixture(scope="session")
def shared():
    """Folder of data that are not part of the checkout; the test is skipped where it is missing."""
    folder = Path(os.environ.get("MULTIQSM_SHARED", Path(__file__).parents[2] / "shared"))
    if not folder.is_dir():
        pytest.skip(f"no folder {folder}: set MULTIQSM_SHARED to the folder of shared test data")
    return folder


@pytest.fixture
def copy_case(shared, tmp_path):
    """Copy one of the named cases among the shared data; returns the copy's root."""

    def copy(name):
        if not (shared / "cases" / name).is_dir():
            pytest.skip(f"no case {name} among the shared data")
        return shutil.copytree(shared / "cases" / name, tmp_path / name)

    return copy


@pytest.fixture
def make_dataset(tmp_path):
    """Write a small multi-echo BIDS dataset; call it with any options of `write_dataset` but the
    root.
    """

    def make(name="raw", **options):
        return write_dataset(tmp_path / name, **options)

    return make


@pytest.fixture(scope="session")
def ball_head():
    """A head that the whole pipeline can process in a second: options for `write_dataset`.

    A ball of brain, a ball of iron in it, air below it; tilted by 10 degrees, anisotropic,
    odd-sized.
    """
    shape, voxel_size, tilt = (33, 32, 27), (2.5, 2.5, 3), np.radians(10)
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
    """The embedded default, run as the README has it, with a relative path: its folder, and what it
    printed.
    """
    folder = tmp_path_factory.mktemp("study")
    command = [
        sys.executable,
        "-c",
        "from multiqsm.cli.demo import main; raise SystemExit(main(['demo']))",
    ]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder / "demo", done.stdout
