"""Pictures of single scans in the report of a study."""

import numpy as np
import pandas as pd
import pytest

from multiqsm.dataset.names import MAPS, SITES, TUBES, picture_path
from multiqsm.interfaces.group_pictures import person_pictures, phantom_pictures

MEANS = {"01": 0.04, "02": 0.05, "03": 0.07}  # ppm; the second person is nearest to the median


def roi_table(means=MEANS, methods=("iterative", "deterministic"), scans=("2", "1")):
    """Return an ROI table of subjects at two sites; its scans are not in order."""
    rows = []
    for subject, mean in means.items():
        for site in "BA":
            for run in scans:
                for method in methods:
                    rows.append((subject, site, run, np.nan, site, int(run), method, mean))
    columns = ["subject", "session", "run", "acquisition", "site", "scan", "method", "mean"]
    return pd.DataFrame(rows, columns=columns).assign(roi="putamen")


def write_picture(root, content, names, **entities):
    path = picture_path(root, entities, **names)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


@pytest.fixture
def study(tmp_path):
    """A derivative dataset with pictures of three people and of a phantom; the content of each file
    says what it shows.
    """
    for subject in MEANS:
        write_picture(tmp_path, f"sites of {subject}".encode(), SITES, subject=subject)
        for session in "AB":
            for run in "12":
                content = f"maps of {subject} {session} {run}".encode()
                scan = {"subject": subject, "session": session, "run": run}
                write_picture(tmp_path, content, MAPS, **scan)
    for session in "AB":
        for run in "12":
            content = f"tubes {session} {run}".encode()
            write_picture(tmp_path, content, TUBES, subject="ph", session=session, run=run)
    return tmp_path


def test_person_nearest_to_the_medians_is_shown(study):
    pictures = person_pictures(study, roi_table())
    assert [picture.content for picture in pictures] == [b"sites of 02", b"maps of 02 A 1"]
    assert "nearest to the medians of the study" in pictures[0].caption
    assert "nearest to the medians of the study" not in pictures[1].caption
    assert "difference between iterative and deterministic" in pictures[1].caption


def test_caption_of_the_first_picture_tells_of_the_choice(study):
    picture_path(study, {"subject": "02"}, **SITES).unlink()
    pictures = person_pictures(study, roi_table(methods=("medi",)))
    assert [picture.content for picture in pictures] == [b"maps of 02 A 1"]
    assert "nearest to the medians of the study" in pictures[0].caption
    assert "difference" not in pictures[0].caption.split(".")[0]
    assert person_pictures(study / "elsewhere", roi_table()) == []


def test_first_phantom_scan_of_each_site_is_shown(study):
    tubes = roi_table({"ph": 0.4})
    pictures = phantom_pictures(study, tubes)
    contents = {site: picture.content for site, picture in pictures.items()}
    assert contents == {"A": b"tubes A 1", "B": b"tubes B 1"}
    assert "First phantom scan at site B (sub-ph, ses-B_run-1)" in pictures["B"].caption
    picture_path(study, {"subject": "ph", "session": "A", "run": "1"}, **TUBES).unlink()
    assert list(phantom_pictures(study, tubes)) == ["B"]
