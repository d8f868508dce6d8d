"""Steadiness of reference regions: a hand-worked table, which does not depend on the reference that
the values were measured with.
"""

import numpy as np
import pandas as pd
import pytest

from multiqsm.stats.calibration import apply_calibration
from multiqsm.stats.references import reference_stability

# Susceptibility relative to the whole mask, ppb: two scans at each of two sites.
RELATIVE_TO_MASK = {
    "csf": [[10, 12], [14, 20]],
    "splenium": [[-20, -20], [-22, -18]],
    "putamen": [[40, 42], [44, 50]],  # varies with the CSF
    "caudate_nucleus": [[30, 30], [30, 30]],
    "thalamus": [[5, 9], [-4, 0]],  # not one of the five regions
}
ROOT = np.sqrt(2)


def long_table(reference="csf", *, rois=tuple(RELATIVE_TO_MASK)):
    """Return the ROI table of these values relative to one of the regions, or to the whole mask."""
    offset = np.zeros((2, 2))
    if reference in RELATIVE_TO_MASK:
        offset = np.array(RELATIVE_TO_MASK[reference]) / 1000
    sites, scans = np.indices((2, 2))
    tables = []
    for roi in rois:
        mean = np.array(RELATIVE_TO_MASK[roi]) / 1000 - offset
        columns = {
            "site": np.array(["A", "B"])[sites.ravel()],
            "scan": scans.ravel() + 1,
            "mean": mean.ravel(),
            "reference_offset": offset.ravel(),
        }
        tables.append(pd.DataFrame(columns).assign(roi=roi))
    table = pd.concat(tables, ignore_index=True)
    return table.assign(subject="01", method="medi", reference=reference, unit="ppm")


def ppb(stability):
    """Return the columns in ppm as ppb, by reference region."""
    columns = ["mean", "within", "cross", "regions_within", "regions_cross"]
    return 1000 * stability.set_index("reference")[columns]


def test_hand_worked_table():
    stability = reference_stability(long_table())
    assert stability["reference"].tolist() == ["csf", "splenium", "brain"]
    assert (stability["n_subjects"] == 1).all()
    assert (stability["n_regions"] == 2).all()
    values = ppb(stability)
    # CSF: standard deviations of √2 and 3√2 over scans, of 2√2 and 4√2 over sites. Relative to it,
    # the putamen is constant, and the caudate nucleus, constant relative to the mask, varies as the
    # CSF does.
    assert values.loc["csf"].tolist() == pytest.approx([14, 2 * ROOT, 3 * ROOT, ROOT, 1.5 * ROOT])
    # Splenium: 0 and 2√2 over scans, √2 and √2 over sites. Relative to it, the putamen has 60, 62
    # and 66, 68; the caudate nucleus 50, 50 and 52, 48.
    assert values.loc["splenium"].tolist() == pytest.approx([-20, ROOT, ROOT, ROOT, 2 * ROOT])
    brain = [0, np.nan, np.nan, ROOT, 1.5 * ROOT]
    assert values.loc["brain"].tolist() == pytest.approx(brain, nan_ok=True)


@pytest.mark.parametrize("reference", ["splenium", "brain"])
def test_result_does_not_depend_on_the_reference_that_was_used(reference):
    pd.testing.assert_frame_equal(
        reference_stability(long_table(reference)), reference_stability(long_table())
    )


def test_methods_and_subjects_are_separate():
    """Imprecision is averaged over subjects; a person without variation halves it."""
    table = long_table()
    steady = table.groupby(["roi"])[["mean", "reference_offset"]].transform("mean")
    steady = table.assign(subject="02", mean=steady["mean"], reference_offset=0.014)
    other = pd.concat([table, steady]).assign(method="iterative")
    stability = reference_stability(pd.concat([table, other], ignore_index=True))
    values = stability.set_index(["method", "reference"])
    assert values.loc[("iterative", "csf"), "n_subjects"] == 2
    for column in ("within", "cross", "regions_within", "regions_cross"):
        one = values.loc[("medi", "csf"), column]
        assert values.loc[("iterative", "csf"), column] == pytest.approx(one / 2)


def test_offsets_are_calibrated_as_values_are():
    """A map that shows 80 % of all differences at one site, calibrated, equals a true one."""
    true = long_table()
    measured = true.copy()
    measured.loc[true["site"] == "B", ["mean", "reference_offset"]] *= 0.8
    lines = pd.DataFrame({"site": ["A", "B"], "slope": [1.0, 0.8]})
    calibrated = apply_calibration(measured, lines.assign(method="medi", r_squared=1.0))
    pd.testing.assert_frame_equal(reference_stability(calibrated), reference_stability(true))


def test_regions_that_the_table_lacks_are_left_out():
    """CSF that was segmented automatically is the reference without being a region."""
    stability = reference_stability(long_table(rois=["putamen", "thalamus"]))
    assert stability["reference"].tolist() == ["csf", "brain"]
    assert (stability["n_regions"] == 1).all()
    assert ppb(stability).loc["csf", "within"] == pytest.approx(2 * ROOT)


def test_reference_that_was_used_is_compared_too():
    atrium = long_table("csf").replace({"csf": "atrium"})
    assert reference_stability(atrium)["reference"].tolist() == ["splenium", "brain", "atrium"]


def test_without_deep_grey_matter_only_the_references_are_described():
    stability = reference_stability(long_table(rois=["splenium", "thalamus"]))
    assert (stability["n_regions"] == 0).all()
    assert stability[["regions_within", "regions_cross"]].isna().all(axis=None)
    assert ppb(stability).loc["splenium", "cross"] == pytest.approx(ROOT)


def test_missing_values_are_left_out():
    """Without scan 2 of site B the splenium has one SD over scans, 0, and one over sites, √2."""
    table = long_table()
    is_missing = (table["site"] == "B") & (table["scan"] == 2) & (table["roi"] == "splenium")
    table.loc[is_missing, "mean"] = np.nan
    values = ppb(reference_stability(table)).loc["splenium"]
    assert values["within"] == pytest.approx(0, abs=1e-9)
    assert values["cross"] == pytest.approx(ROOT)


def test_unusable_tables_are_refused():
    with pytest.raises(ValueError, match="no column reference_offset"):
        reference_stability(long_table().drop(columns="reference_offset"))
    mixed = pd.concat([long_table("csf"), long_table("splenium").assign(subject="02")])
    with pytest.raises(ValueError, match=r"several regions \(csf, splenium\)"):
        reference_stability(mixed)
