"""Small BIDS datasets for tests, and the errors that the official validator finds."""

import json
import shutil
import subprocess
import sys
from itertools import product
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from helpers.analytic import iron_head

AFFINE = np.array([[1.0, 0, 0, -3], [0, 1, 0, -2], [0, 0, 2, -4], [0, 0, 0, 1]])
SCANNER = {"Manufacturer": "Siemens", "MagneticFieldStrength": 3, "ImagingFrequency": 123.2}


def write_dataset(
    root,
    *,
    subjects=("01",),
    sessions=(None,),
    acquisitions=(None,),
    reconstructions=(None,),
    runs=(None,),
    parts=("mag", "phase"),
    echo_times=(0.006, 0.012, 0.018),
    suffix="MEGRE",
    shape=(6, 5, 4),
    affine=AFFINE,
    metadata=None,
    voxels=None,
):
    """Write every combination of the entities as a scan; return the root.

    `voxels` returns the image of a part and an echo time; by default images are random.

    None among the labels stands for a missing entity; among `parts`, for a magnitude without part.
    `metadata` is added to each sidecar over `SCANNER`; a value of None removes the field.
    """
    root.mkdir(parents=True, exist_ok=True)
    write_json(root / "dataset_description.json", {"Name": "Test data", "BIDSVersion": "1.10.0"})
    (root / "README").write_text("Random numbers, written by the tests.\n")
    random = np.random.default_rng(0)
    for subject, *labels in product(subjects, sessions, acquisitions, reconstructions, runs):
        entities = [("sub", subject), *zip(("ses", "acq", "rec", "run"), labels, strict=True)]
        folder = root / f"sub-{subject}" / (f"ses-{labels[0]}" if labels[0] else "") / "anat"
        folder.mkdir(parents=True, exist_ok=True)
        for (echo, time), part in product(enumerate(echo_times, start=1), parts):
            stem = "_".join(f"{key}-{label}" for key, label in entities if label is not None)
            stem += f"_echo-{echo}" if suffix == "MEGRE" else ""
            stem += f"_part-{part}" if part is not None else ""
            image = folder / f"{stem}_{suffix}.nii.gz"
            values = values_of(part, shape, random) if voxels is None else voxels(part, time)
            save_as_scanned(image, values, affine)
            sidecar = {
                **SCANNER,
                "EchoTime": time,
                "Units": "rad" if part == "phase" else "arbitrary",
            }
            sidecar |= metadata or {}
            fields = {key: value for key, value in sidecar.items() if value is not None}
            write_json(image.with_name(f"{stem}_{suffix}.json"), fields)
    return root


def save_as_scanned(path, values, affine):
    """Write an image with any affine, marked as that to the scanner, as converters do."""
    image = nib.Nifti1Image(values, affine)
    image.set_sform(affine, 1)
    nib.save(image, path)


def values_of(part, shape, random):
    """Return random voxels in the range of a part of an image."""
    low, high = {"phase": (-np.pi, np.pi), "real": (-100, 100), "imag": (-100, 100)}.get(
        part, (50, 100)
    )
    return random.uniform(low, high, shape).astype(np.float32)


def bright_head(part, echo_time, seed=0):
    """Return an image of a ball of 520 mL of brain with three paramagnetic balls in it; its phase
    grows with the field. Voxels have 3 mm.
    """
    shape = (36, 40, 34)
    field, brain = iron_head(shape, (3, 3, 3), (0, 0, 1))
    random = np.random.default_rng(round(1e6 * echo_time) + seed)
    signal = 100 * brain * np.exp((-20 + 2j * np.pi * 123.2 * field) * echo_time)
    signal = signal + random.normal(size=(*shape, 2)).view(complex)[..., 0]
    return {"mag": np.abs, "phase": np.angle, "real": np.real, "imag": np.imag}[part](
        signal
    ).astype(np.float32)


SMOOTH = (20, 18, 16)


def coordinates():
    """Coordinates from -1 to 1 along each axis of the smooth head."""
    return np.meshgrid(*(np.linspace(-1, 1, n) for n in SMOOTH), indexing="ij")


def smooth_head(part, echo_time, *, alternating=0.0, chopped=False, start=0.4):
    """Simulate a smooth phase with wraps and a little noise.

    All echoes have the phase `start` in addition, even echoes also `alternating`.
    """
    x, y, z = coordinates()
    is_even = round(echo_time / 0.006) % 2 == 0
    phase = (
        start
        + 2 * np.pi * (60 * (z - 0.1) ** 2 + 50 * (x - 0.1) * y) * echo_time
        + is_even * alternating
    )
    phase = phase + np.pi * chopped * (np.arange(SMOOTH[2]) % 2)
    random = np.random.default_rng(round(1e6 * echo_time))
    signal = 1000 * np.exp(-20 * echo_time + 1j * phase) + random.normal(0, 20, SMOOTH)
    signal = signal + 1j * random.normal(0, 20, SMOOTH)
    part_of = {"mag": np.abs, "phase": np.angle, "real": np.real, "imag": np.imag}
    return part_of[part](signal).astype(np.float32)


def write_json(path, content):
    """Write a sidecar or description."""
    path.write_text(json.dumps(content))


def validator_errors(root):
    """Return the codes of the official validator's errors."""
    return {code for severity, code in validator_issues(root) if severity == "error"}


def validator_findings(root):
    """Return the codes of its errors and warnings, except that authors are missing: whom to name
    is for the user to say.
    """
    codes = {code for severity, code in validator_issues(root) if severity != "ignore"}
    return codes - {("TOO_FEW_AUTHORS", None)}


def validator_issues(root):
    """Return severity and code of each issue of the official validator."""
    installed = Path(sys.executable).with_name("bids-validator-deno")
    command = str(installed) if installed.exists() else shutil.which("bids-validator-deno")
    if command is None:
        pytest.skip("bids-validator-deno is not installed")
    process = subprocess.run(
        [command, str(root), "--json"], capture_output=True, text=True, check=False
    )
    issues = set()
    for issue in json.loads(process.stdout)["issues"]["issues"]:
        issues.add((issue["severity"], (issue["code"], issue.get("subCode"))))
    return issues
