"""The thalamus study's measurements from simulated patients' images: by the commands, against the
truth.
"""

import json
import re

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from helpers.datasets import validator_errors

from multiqsm.cli.app import main
from multiqsm.cli.simulate import main as simulate
from multiqsm.cohort.roi_tables import read_roi_table
from multiqsm.dataset.tables import read_tsv

pytestmark = pytest.mark.slow

# The first three patients: a thalamus far below its surroundings, many lesions, and few.
PATIENTS = ("001", "002", "003")


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    """Images of patients, and what the participant level makes of them with FreeSurfer's labels and
    seeds alone.
    """
    root = tmp_path_factory.mktemp("thalamus")
    raw, out, machine = root / "raw", root / "out", ["--n-procs", "2", "-w", str(root / "work")]
    voxels = ["--voxel-size", "1.5", "1.5", "2"]
    assert (
        simulate(
            [str(raw), "--design", "thalamus", "--subjects", str(len(PATIENTS)), *voxels, *machine]
        )
        == 0
    )
    for drawn in (raw / "derivatives" / "manual").glob("sub-*/anat/*_dseg.*"):
        drawn.unlink()
    choices = ["--inversion", "medi", "--reference", "atrium", "--exclude-veins", "--se-draws", "0"]
    assert main([str(raw), str(out), "participant", *choices, *machine]) == 0
    return raw, out


def anat(out, patient, ending):
    return out / f"sub-{patient}" / "anat" / f"sub-{patient}_{ending}"


def truth_of(raw):
    table = pd.read_csv(raw / "derivatives/truth/phenotype/thalamus.tsv", sep="\t", index_col=0)
    return table["relative_susceptibility"]


def test_relative_susceptibility_of_the_thalamus(cohort):
    raw, out = cohort
    for patient in PATIENTS:
        table = read_roi_table(anat(out, patient, "desc-rois_chi.tsv")).set_index("roi")
        assert 1000 * table.loc["thalamus", "mean"] == pytest.approx(
            truth_of(raw)[f"sub-{patient}"], abs=3
        )
        assert (table["reference"] == "atrium").all()
        assert table.loc["thalamus", "n_excluded"] > 50
        assert table.loc["thalamus", "volume"] > 8
        for side in ("left", "right"):
            assert table.loc[f"{side}_thalamus", "mean"] == pytest.approx(
                table.loc["thalamus", "mean"], abs=0.002
            )


def test_reference_lies_in_csf(cohort):
    raw, out = cohort
    for patient in PATIENTS:
        told = json.loads(anat(out, patient, "desc-rois_chi.json").read_text())
        assert told["FreeSurferLabelsRegisteredBy"] == "T1w"
        labels = nib.load(anat(raw / "derivatives/truth", patient, "desc-truth_dseg.nii.gz"))
        names = read_tsv(anat(raw / "derivatives/truth", patient, "desc-truth_dseg.tsv")).set_index(
            "name"
        )["index"]
        to_voxel = np.linalg.inv(labels.affine)
        for centre in told["ReferenceCentres"]:
            voxel = np.rint(to_voxel @ [*centre, 1])[:3].astype(int)
            around = np.asarray(labels.dataobj)[tuple(slice(v - 1, v + 2) for v in voxel)]
            assert (around == names["lateral_ventricle"]).all()


def test_volume_of_lesions(cohort):
    raw, out = cohort
    for patient in PATIENTS:
        true = (
            nib.load(
                anat(raw / "derivatives/truth", patient, "desc-lesions_mask.nii.gz")
            ).get_fdata()
            > 0
        )
        table = pd.read_csv(anat(out, patient, "desc-lesions_stats.tsv"), sep="\t")
        volume = json.loads(
            anat(raw / "derivatives/truth", patient, "desc-lesions_mask.json").read_text()
        )["Volume"]
        assert table["volume"].iloc[-1] == pytest.approx(volume, rel=0.1)
        found = nib.load(anat(out, patient, "space-FLAIR_label-lesion_mask.nii.gz")).get_fdata() > 0
        assert 2 * (found & true).sum() / (found.sum() + true.sum()) > 0.85


def test_quality_and_report(cohort):
    _, out = cohort
    for patient in PATIENTS:
        quality = read_tsv(anat(out, patient, "desc-quality_stats.tsv"))
        assert len(quality) == 1
        assert quality["snr"].between(50, 500).all()
        assert (quality["unresolved_share"] < 0.05).all()
        page = (out / f"sub-{patient}.html").read_text()
        assert re.search("<h2[^>]*>.*Lesions", page)
        assert "Planes of the FLAIR image through the lesions" in page
        assert "FreeSurfer, registered by T1w" in page
        assert "spheres in the atrium of each lateral ventricle" in page


def test_validator_accepts_all_of_it(cohort):
    raw, out = cohort
    assert validator_errors(out) == set()
    assert validator_errors(raw / "derivatives" / "manual") == set()
