"""The person who is shown as an example of a study."""

import numpy as np
import pandas as pd
import pytest

from multiqsm.stats.representative import representative_subject


def table_of(means, sites="AB"):
    """Return an ROI table of subjects from their means of two regions, the same at every site."""
    rows = []
    for subject, values in means.items():
        for site in sites:
            for roi, mean in zip(("putamen", "pallidum"), values, strict=True):
                rows.append((subject, site, "medi", roi, mean))
    return pd.DataFrame(rows, columns=["subject", "site", "method", "roi", "mean"])


STUDY = {
    "01": (0.040, 0.180),
    "02": (0.052, 0.129),
    "03": (0.061, 0.110),
    "04": (0.050, 0.090),
    "05": (0.030, 0.131),
}


def test_person_nearest_to_the_medians_is_chosen():
    # The medians are .050 and .129; only 02 is near to both.
    assert representative_subject(table_of(STUDY)) == "02"
    shuffled = table_of(STUDY).sample(frac=1, random_state=0)
    assert representative_subject(shuffled) == "02"


@pytest.mark.parametrize("factor", [0.001, 1000.0])
def test_choice_does_not_depend_on_the_unit_of_a_region(factor):
    scaled = {subject: (factor * first, second) for subject, (first, second) in STUDY.items()}
    assert representative_subject(table_of(scaled)) == "02"


def test_subjects_with_fewer_sites_are_not_chosen():
    rois = table_of(STUDY)
    rois = rois[(rois["subject"] != "02") | (rois["site"] == "A")]
    assert representative_subject(rois) in set(STUDY) - {"02"}


def test_of_subjects_equally_near_the_first_by_label_is_chosen():
    # Two values always deviate equally from their median.
    assert representative_subject(table_of({"02": (0.1, 0.3), "01": (0.7, 0.2)})) == "01"
    assert representative_subject(table_of({"07": (0.1, 0.3)})) == "07"


def test_reference_region_and_missing_means_do_not_count():
    rois = table_of(STUDY)
    reference = rois.assign(roi="csf", mean=0.0)
    missing = rois.assign(roi="thalamus", mean=np.nan)
    assert representative_subject(pd.concat([reference, rois, missing])) == "02"
    assert representative_subject(missing) is None


def test_person_without_any_measured_region_in_common_is_not_preferred():
    rois = pd.concat([table_of(STUDY), table_of({"00": (0.0, 0.0)}).assign(roi="csf")])
    assert representative_subject(rois) == "02"
