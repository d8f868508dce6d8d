"""Computation times: measured against a stopwatch, and saved beside the results."""

from time import perf_counter, process_time, sleep

import nibabel as nib
import numpy as np
import pytest
from helpers.analytic import sphere_field
from helpers.commands import run

from multiqsm.core.inversion.problem import working_grid
from multiqsm.dataset.times import read_times, times_path
from multiqsm.execution.completion import COMPLETION_RECORDS
from multiqsm.interfaces.inversion import Deterministic, Iterative
from multiqsm.interfaces.timing import SaveTimes, processor_model, timed

PAUSE = 0.2  # s


def test_waiting_takes_time_but_no_processor_time():
    result, time = timed(lambda: sleep(PAUSE) or "done", (20, 20, 20))
    assert result == "done"
    assert time.wall >= PAUSE
    assert 0 <= time.cpu < PAUSE / 2
    assert time.fft_pairs == pytest.approx(time.wall / time.fft_pair)


def test_larger_volumes_take_longer_to_transform():
    """Their 64 times as many voxels leave no doubt even on a busy machine."""
    small, large = [timed(lambda: None, (size, size, size))[1].fft_pair for size in (16, 64)]
    assert large > small > 0


@pytest.fixture
def inversion_files(tmp_path):
    """Field of a sphere, and the other inputs of an inversion."""
    shape = (30, 28, 20)
    field, fraction = sphere_field(shape, (1, 1, 2), (0, 0, 1), radius=9, chi=0.1)
    inside = fraction > 0
    volumes = {
        "local_field": field,
        "mask": inside.astype(np.uint8),
        "standard_error": np.full(shape, 1e-3, np.float32),
        "magnitude": np.stack([inside, inside], axis=-1).astype(np.float32),
    }
    files = {}
    for name, volume in volumes.items():
        files[f"{name}_file"] = str(tmp_path / f"{name}.nii")
        nib.save(nib.Nifti1Image(volume, np.diag([1, 1, 2, 1])), files[f"{name}_file"])
    return files, inside


@pytest.mark.parametrize("interface", [Deterministic, Iterative])
def test_inversion_takes_no_longer_than_its_node(interface, inversion_files, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    files, mask = inversion_files
    node = interface(num_threads=2)
    for name in set(files) & set(node.inputs.copyable_trait_names()):
        setattr(node.inputs, name, files[name])
    start_cpu = process_time()
    start = perf_counter()
    outputs = node.run().outputs
    elapsed = perf_counter() - start
    elapsed_cpu = process_time() - start_cpu
    assert 0 < outputs.time.wall < elapsed
    assert 0 < outputs.time.cpu < elapsed_cpu
    assert outputs.time.grid == working_grid(mask, (1, 1, 2)).shape
    assert outputs.time.threads == 2
    assert outputs.time.processor == processor_model() != ""
    assert not {field for field in outputs.provenance if "Time" in field or "CPU" in field}


def test_times_are_saved_but_are_no_output(tmp_path):
    """The completion record lists outputs."""
    _, time = timed(lambda: None, (8, 8, 8))
    save = SaveTimes(output_dir=str(tmp_path), scan="sub-01", methods=["medi"], times=[time])
    assert save.run().outputs.get() == {}
    assert read_times(tmp_path, "sub-01") == {"medi": time}


@pytest.mark.slow
def test_reused_inversions_keep_their_times(make_dataset, ball_head):
    root = make_dataset(**ball_head)
    out = root.parent / "out"
    options = ("--inversion", "deterministic", "tkd", "--lambda", "0.2", "--se-draws", "0")
    assert run(root, *options) == 0
    times = read_times(out, "sub-01")
    assert list(times) == ["deterministic", "tkd"]
    record = out / COMPLETION_RECORDS / "scans" / "sub-01.json"
    assert "logs/times" not in record.read_text()
    # The work folder still has the results of all steps, so that none of them is computed again.
    record.unlink()
    times_path(out, "sub-01").unlink()
    assert run(root, *options) == 0
    assert read_times(out, "sub-01") == times
    # A deleted file of times does not make the scan unfinished.
    times_path(out, "sub-01").unlink()
    assert run(root, *options) == 0
    assert read_times(out, "sub-01") == {}
