"""The measurements of the thalamus study: from images of simulated patients, against the truth."""

import json
import re

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from helpers.datasets import validator_errors, validator_findings

from multiqsm.cli.app import main
from multiqsm.cli.simulate import main as simulate
from multiqsm.cohort.roi_tables import read_roi_table
from multiqsm.dataset.tables import read_tsv

pytestmark = pytest.mark.slow

# The first three patients have a thalamus of low susceptibility, many lesions, and few lesions.
PATIENTS = ("001", "002", "003")


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    """Images of patients, and their derivatives by FreeSurfer's labels and seeds alone."""
    root = tmp_path_factory.mktemp("thalamus")
    raw = root / "raw"
    out = root / "out"
    machine = ["--n-procs", "2", "-w", str(root / "work")]
    design = ["--design", "thalamus", "--ideal", "--subjects", str(len(PATIENTS))]
    assert simulate([str(raw), *design, "--voxel-size", "1.5", "1.5", "2", *machine]) == 0
    for path in (raw / "derivatives" / "manual").glob("sub-*/anat/*_dseg.*"):
        path.unlink()
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
        sidecar = json.loads(anat(out, patient, "desc-rois_chi.json").read_text())
        assert sidecar["FreeSurferLabelsRegisteredBy"] == "T1w"
        truth = raw / "derivatives" / "truth"
        labels = nib.load(anat(truth, patient, "desc-truth_dseg.nii.gz"))
        names = read_tsv(anat(truth, patient, "desc-truth_dseg.tsv")).set_index("name")["index"]
        to_voxel = np.linalg.inv(labels.affine)
        for centre in sidecar["ReferenceCentres"]:
            x, y, z = np.rint(to_voxel @ [*centre, 1])[:3].astype(int)
            sphere = np.asarray(labels.dataobj)[x - 1 : x + 2, y - 1 : y + 2, z - 1 : z + 2]
            assert (sphere == names["lateral_ventricle"]).all()


def test_volume_of_lesions(cohort):
    raw, out = cohort
    for patient in PATIENTS:
        truth = raw / "derivatives" / "truth"
        sidecar = json.loads(anat(truth, patient, "desc-lesions_mask.json").read_text())
        table = pd.read_csv(anat(out, patient, "desc-lesions_stats.tsv"), sep="\t")
        assert table["volume"].iloc[-1] == pytest.approx(sidecar["Volume"], rel=0.1)
        true_mask = read_mask(anat(truth, patient, "desc-lesions_mask.nii.gz"))
        mask = read_mask(anat(out, patient, "space-FLAIR_label-lesion_mask.nii.gz"))
        dice = 2 * (mask & true_mask).sum() / (mask.sum() + true_mask.sum())
        assert dice > 0.85


def read_mask(path):
    return nib.load(path).get_fdata() > 0


def test_quality_and_report(cohort):
    _, out = cohort
    for patient in PATIENTS:
        quality = read_tsv(anat(out, patient, "desc-quality_stats.tsv"))
        assert len(quality) == 1
        assert quality["snr_first_echo"].between(50, 500).all()
        assert (quality["unresolved_fraction"] < 0.05).all()
        page = (out / f"sub-{patient}.html").read_text()
        assert re.search("<h2[^>]*>.*Lesions", page)
        assert "Planes of the FLAIR image through the lesions" in page
        assert "in axial planes of FLAIR" in page
        assert "FreeSurfer, registered by T1w" in page
        assert "spheres in the atrium of each lateral ventricle" in page


def test_validator_accepts_all_datasets(cohort):
    raw, out = cohort
    assert validator_findings(out) == set()
    assert validator_errors(raw / "derivatives" / "manual") == set()
