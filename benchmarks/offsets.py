"""Are offsets of real and imaginary images reported that were never added?

    python benchmarks/offsets.py [--draws 15]

Simulates echoes without an offset, each voxel with a field and a decay of its own and two
compartments, for all combinations of the field's spread (1 to 60 Hz), the echo spacing (1 to 10
ms), the signal-to-noise ratio (10 to 200) and the readout (monopolar or bipolar), 180 combinations
with `--draws` sets each. A set is a false detection if the offset that `common_offset` or
`echo_offsets` determines is as large as one that the audit reports. Prints the number of sets and
of false detections, and a line for each.
"""

import argparse
from itertools import product

import numpy as np

from multiqsm.core.artefacts.offsets import common_offset, echo_offsets
from multiqsm.dataset.preflight.parts import OFFSET

N_VOXELS = 4000
N_ECHOES = 4
SPREADS = (1, 3, 8, 15, 30, 60)  # Hz, standard deviation of the field
SPACINGS = (0.001, 0.002, 0.004, 0.007, 0.010)  # s
SIGNAL_TO_NOISE = (10, 50, 200)  # of the first echo
READOUTS = {"monopolar": 0.0, "bipolar": 0.6}  # rad, greatest phase offset of even echoes


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--draws", type=int, default=15, help="sets of each combination")
    options = parser.parse_args()
    detections = []
    n_sets = 0
    for case in product(SPREADS, SPACINGS, SIGNAL_TO_NOISE, READOUTS):
        for draw in range(options.draws):
            signal, echo_times = simulate(*case, seed=(n_sets, draw))
            n_sets += 1
            size = relative_offset(signal, echo_times)
            if size > OFFSET:
                spread, spacing, ratio, readout = case
                detections.append(
                    f"{spread} Hz, {1000 * spacing:g} ms, signal-to-noise ratio {ratio}, "
                    f"{readout}: an offset of {size:.0%} of the signal"
                )
    print(f"{n_sets} sets of echoes without an offset: {len(detections)} false detections")
    print("\n".join(detections))


def simulate(spread, spacing, signal_to_noise, readout, *, seed):
    """Return complex echoes, shape (echoes, voxels), and their times in s."""
    rng = np.random.default_rng(seed)
    echo_times = spacing * (1 + np.arange(N_ECHOES))
    times = echo_times[:, None]
    signal = np.zeros((N_ECHOES, N_VOXELS), complex)
    second_fraction = rng.uniform(0, 0.3, N_VOXELS)
    for fraction in (1 - second_fraction, second_fraction):
        field = spread * rng.standard_normal(N_VOXELS)  # Hz
        decay = rng.uniform(5, 60, N_VOXELS)  # 1/s
        signal += fraction * np.exp((2j * np.pi * field - decay) * times)
    signal *= rng.uniform(0.5, 1.5, N_VOXELS) * np.exp(0.5j * rng.standard_normal(N_VOXELS))
    # the offset of even echoes varies over the image
    even_phase = READOUTS[readout] * rng.uniform(-1, 1, N_VOXELS)
    signal[1::2] *= np.exp(1j * even_phase)
    noise = np.abs(signal[0]).mean() / signal_to_noise
    draws = rng.standard_normal((2, *signal.shape))
    return signal + noise * (draws[0] + 1j * draws[1]), echo_times


def relative_offset(signal, echo_times):
    """Return the largest offset of an image, relative to its strong values, as the audit does."""
    common = common_offset(signal, echo_times)
    alternatives = np.stack(
        [np.full(len(signal), 0 if common is None else common), echo_offsets(signal, echo_times)]
    )
    largest = 0.0
    for part in (np.real, np.imag):
        offsets = np.abs(part(alternatives)).max(axis=0)
        strong = np.percentile(np.abs(part(signal)), 99, axis=1)
        largest = max(largest, float((offsets / strong).max()))
    return largest


if __name__ == "__main__":
    main()
