"""The public functions of `import multiqsm`, and the README's example of them."""

import re
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

import multiqsm
from multiqsm.simulation.encoding import siemens_encoding
from multiqsm.simulation.plan import simulate
from multiqsm.simulation.study import make_design

README = Path(__file__).parents[1] / "README.md"


@pytest.mark.parametrize("name", multiqsm.__all__)
def test_public_names_exist_and_are_documented(name):
    assert getattr(multiqsm, name).__doc__ or name == "PRESETS"


def test_import_loads_no_numerics():
    """Reading the version does not wait for the import of scipy and Nipype."""
    command = "import multiqsm, sys; print({'numpy', 'scipy', 'nipype'} & set(sys.modules))"
    result = subprocess.run(
        [sys.executable, "-c", command], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "set()"


def test_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no_such_function"):
        _ = multiqsm.no_such_function


@pytest.mark.slow
@pytest.mark.parametrize("manufacturer", ["Siemens", "GE MEDICAL SYSTEMS"])
def test_example_of_the_readme(tmp_path, monkeypatch, manufacturer):
    """From the files of a simulated scan to a map that agrees with its truth.

    GE's phase, in radians and of the opposite sign, gives the right sign too once the two lines on
    the scanner are changed.
    """
    plan = make_design("demo", subjects=1, runs=1, sites=["A"]).plans[0]
    scan = simulate(plan)
    example = re.search(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.S).group(1)
    assert str(list(plan.protocol.echo_times)) in example.replace("0.030", "0.03")
    magnitude, phase = siemens_encoding(scan.signal)
    if manufacturer != "Siemens":
        phase = -np.angle(scan.signal)
        example = example.replace('"Siemens"', repr(manufacturer)).replace('"arbitrary"', '"rad"')
    for echo in range(4):
        for part, values in (("mag", magnitude), ("phase", phase)):
            image = nib.Nifti1Image(values[..., echo], scan.affine)
            nib.save(image, tmp_path / f"{part}_{echo + 1}.nii.gz")
    monkeypatch.chdir(tmp_path)
    exec(compile(example, str(README), "exec"), {})
    chi = nib.load("chi.nii.gz").get_fdata()
    inside = scan.mask & (chi != 0)
    assert inside.sum() > 0.8 * scan.mask.sum()
    assert np.corrcoef(chi[inside], scan.chi[inside])[0, 1] > 0.8
