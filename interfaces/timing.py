"""Computation times of the inversions: how they are measured and saved."""

import platform
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter, process_time
from typing import TypeVar

import numpy as np
from nipype.interfaces.base import (
    BaseInterfaceInputSpec,
    Directory,
    SimpleInterface,
    TraitedSpec,
    traits,
)
from scipy import fft

from ..dataset.times import InversionTime, write_times

FFT_PAIRS = 2  # before the computation, and as many after it
CPU_INFO = Path("/proc/cpuinfo")  # of Linux

_Result = TypeVar("_Result")


def timed(compute: Callable[[], _Result], grid: Sequence[int]) -> tuple[_Result, InversionTime]:
    """Run a computation and measure its time.

    Pairs of Fourier transforms are timed just before and after it: its cost in such pairs depends
    less on the machine, and on the matrix, than seconds do.

    Parameters
    ----------
    compute : callable
        The computation, without arguments.
    grid : sequence of 3 ints
        Shape of the volume on which it works.

    Returns
    -------
    result : object
        What `compute` returns.
    time : InversionTime
        Its time. The time of an FFT pair is the median of all pairs.
    """
    pairs = _fft_pair_times(grid)
    start_cpu = process_time()
    start = perf_counter()
    result = compute()
    wall = perf_counter() - start
    cpu = process_time() - start_cpu
    pairs += _fft_pair_times(grid)
    time = InversionTime(
        wall=wall,
        cpu=cpu,
        fft_pair=float(np.median(pairs)),
        grid=tuple(grid),
        threads=fft.get_workers(),
        processor=processor_model(),
    )
    return result, time


def _fft_pair_times(grid):
    """Return the elapsed times of some pairs of Fourier transforms in single precision, s."""
    volume = np.ones(grid, np.float32)
    times = []
    for _ in range(FFT_PAIRS):
        start = perf_counter()
        fft.irfftn(fft.rfftn(volume), volume.shape)
        times.append(perf_counter() - start)
    return times


def processor_model() -> str:
    """Return the model of this machine's processor, or its architecture if the model is unknown."""
    try:
        text = CPU_INFO.read_text(encoding="utf-8", errors="replace")
    except OSError:  # not Linux
        text = ""
    model = re.search(r"^model name\s*:\s*(\S.*)$", text, re.MULTILINE)
    return model[1].strip() if model else platform.processor() or platform.machine()


class _SaveTimesInputSpec(BaseInterfaceInputSpec):
    output_dir = Directory(mandatory=True, desc="root of the derivative dataset")
    scan = traits.Str(mandatory=True, desc="label of the scan")
    methods = traits.List(traits.Str, mandatory=True, desc="names of the inversions")
    times = traits.List(
        traits.Instance(InversionTime), mandatory=True, desc="time of each inversion"
    )


class SaveTimes(SimpleInterface):
    """Save the computation times of a scan's inversions.

    The file is not an output: it would then be in the scan's completion record, which lists the
    files that two runs have in common.
    """

    input_spec = _SaveTimesInputSpec
    output_spec = TraitedSpec
    _always_run = True  # the output directory is the user's, and may have been emptied since

    def _run_interface(self, runtime):
        inputs = self.inputs
        times = dict(zip(inputs.methods, inputs.times, strict=True))
        write_times(inputs.output_dir, inputs.scan, times)
        return runtime
