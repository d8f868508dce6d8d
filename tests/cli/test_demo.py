"""The demo: a simulated study of three sites, whose maps agree with its truth."""

import nibabel as nib
import numpy as np
import pytest
from helpers.datasets import validator_findings
from helpers.sidecars import columns_without_levels

from multiqsm.cli.audit import main as audit
from multiqsm.dataset.collection import collect_scans
from multiqsm.dataset.tables import read_tsv

NUCLEI = {
    "caudate": (11, 12),
    "putamen": (13, 14),
    "pallidum": (15, 16),
    "red nucleus": (17, 18),
    "nigra": (19, 20),
}
VENTRICLES = 6
# Error of a nucleus' mean at 2 x 2 x 2.5 mm, ppm. Scans of the demo are rough: the largest errors
# of single scans are 28, 32 and 30 ppb.
LARGEST_ERROR = {"medi": 0.030, "iterative": 0.036, "deterministic": 0.040}
# The closed form penalises edges of nuclei as well, and its λ allows for smooth errors.
SMALLEST_SLOPE = {"medi": 0.85, "iterative": 0.85, "deterministic": 0.80}


def means(scans, raw, results, method):
    """Return the mean susceptibility of each nucleus relative to the ventricles in every scan: the
    true one, and that of the maps.
    """
    true_means = []
    map_means = []
    for scan in scans:
        folder = f"sub-{scan.entities['subject']}/ses-{scan.entities['session']}/anat"
        truth = raw / "derivatives" / "truth" / folder / scan.label
        derivative = results / folder / scan.label
        true_chi = volume(f"{truth}_desc-truth_Chimap.nii.gz")
        chi = volume(f"{derivative}_desc-{method}_Chimap.nii.gz")
        mask = volume(f"{derivative}_desc-brain_mask.nii.gz") > 0
        labels = np.where(mask, volume(f"{truth}_desc-truth_dseg.nii.gz"), 0)
        ventricles = labels == VENTRICLES
        for indices in NUCLEI.values():
            nucleus = np.isin(labels, indices)
            true_means.append(true_chi[nucleus].mean() - true_chi[ventricles].mean())
            map_means.append(chi[nucleus].mean() - chi[ventricles].mean())
    shape = (len(scans), len(NUCLEI))
    return np.reshape(true_means, shape), np.reshape(map_means, shape)


def volume(path):
    return nib.load(path).get_fdata()


@pytest.mark.slow
def test_demo(demo):
    folder, printed = demo
    raw = folder / "raw"
    results = folder / "derivatives"
    scans, left_out = collect_scans(raw)
    assert len(scans) == 12
    assert not left_out

    for method, largest_error in LARGEST_ERROR.items():
        true_means, map_means = means(scans, raw, results, method)
        assert np.abs(map_means - true_means).max() < largest_error
        slope, _ = np.polyfit(true_means.ravel(), map_means.ravel(), 1)
        assert SMALLEST_SLOPE[method] < slope < 1.12
        # A nucleus varies between scans no more than the least precise one of the study, 12 ppb.
        by_person = map_means.reshape(2, 6, len(NUCLEI))
        assert by_person.std(axis=1, ddof=1).max() < 0.0125

    # The regions drawn in the study are resampled to all scans, measured and compared.
    rois = read_tsv(results / "group" / "roi_chi.tsv")
    assert rois.groupby(["subject", "site", "scan"]).ngroups == 12
    assert set(rois["reference"]) == {"csf"}
    summary = read_tsv(results / "group" / "imprecision_summary.tsv")
    assert set(summary["method"]) == {"medi", "iterative", "deterministic"}
    assert (summary["cross"] < 0.0125).all()
    # Two people are too few for some statistics.
    assert "not computed" in (results / "group.html").read_text()
    for subject in ("01", "02"):
        page = (results / f"sub-{subject}.html").read_text()
        assert "All scans were processed without warnings." in page
    assert validator_findings(results) == set()
    assert columns_without_levels(results) == set()

    assert "report: demo/derivatives/group.html" in printed
    assert "sub-01_ses-A_run-1_desc-medi_Chimap.png" in printed
    assert (
        results / "sub-01" / "figures" / "sub-01_ses-A_run-1_desc-medi_Chimap.png"
    ).stat().st_size > 10_000


@pytest.mark.slow
def test_audit_of_the_demo_checks_the_signs_of_its_phases(demo, tmp_path):
    table_file = tmp_path / "audit.tsv"
    assert audit([str(demo[0] / "raw"), "-o", str(table_file), "--strict"]) == 0
    table = read_tsv(table_file)
    assert set(table["phase_sign"]) == {1, -1}
    assert (table["sign_asymmetry"] > 0).all()  # a wrong sign makes it negative
