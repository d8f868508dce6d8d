"""Sessions of unknown scanners count as sites, which both levels say."""

import pandas as pd
import pytest
from helpers.datasets import write_dataset, write_json

from multiqsm.cohort.sites import session_site_notes
from multiqsm.dataset.collection import collect_scans
from multiqsm.dataset.participants import check_sites
from multiqsm.dataset.sidecars import sidecar_path

ONE_ECHO = {"suffix": "T2starw", "echo_times": (0.02,)}


@pytest.mark.parametrize(
    ("field", "value", "is_known"),
    [
        ("InstitutionName", "Clinic", True),
        ("StationName", "MR2", True),
        ("DeviceSerialNumber", 41017, True),
        ("InstitutionName", "ANONYMIZED", False),
        ("InstitutionName", "", False),
        ("StationName", "de-identified", False),
    ],
)
def test_warning_if_nothing_tells_the_scanners_of_sessions_apart(tmp_path, field, value, is_known):
    root = write_dataset(tmp_path, sessions=("1", "2"), metadata={field: value}, **ONE_ECHO)
    scans, _ = collect_scans(root)
    warnings = check_sites(scans)
    assert len(warnings) == (not is_known)
    assert {scan.site for scan in scans} == ({str(value)} if is_known else {"1", "2"})


def test_warning_ends_when_a_table_names_the_site(tmp_path):
    root = write_dataset(tmp_path, sessions=("1", "2"), **ONE_ECHO)
    (warning,) = check_sites(collect_scans(root)[0])
    assert "sessions 1 and 2 count as sites" in warning.cause
    assert "add a column site" in warning.remedy
    (root / "participants.tsv").write_text("participant_id\tsite\nsub-01\tClinic\n")
    scans, _ = collect_scans(root)
    assert check_sites(scans) == []
    assert {scan.site for scan in scans} == {"Clinic"}


def test_one_session_for_all_is_no_reason_to_warn(tmp_path):
    root = write_dataset(tmp_path, subjects=("01", "02"), sessions=("1",), **ONE_ECHO)
    assert check_sites(collect_scans(root)[0]) == []


@pytest.mark.parametrize(
    ("source", "is_noted"), [("the session label", True), ("column site of sessions.tsv", False)]
)
def test_group_level_reads_the_source_from_the_sidecars(tmp_path, source, is_noted):
    rois = pd.DataFrame({"subject": "01", "session": ["1", "2"], "site": ["1", "2"]})
    for session in ("1", "2"):
        name = f"sub-01/ses-{session}/anat/sub-01_ses-{session}_desc-medi_Chimap.nii.gz"
        sidecar = sidecar_path(tmp_path / name)
        sidecar.parent.mkdir(parents=True)
        write_json(sidecar, {"SiteSource": source})
    notes = session_site_notes(tmp_path, rois.assign(method="medi"))
    assert len(notes) == is_noted
