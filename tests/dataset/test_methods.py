"""The methods text describes the processing steps that the sidecars record, with their numbers of
scans and people.
"""

import re

import pandas as pd
import pytest

from multiqsm.bids_templates import load_template
from multiqsm.dataset.files import write_json
from multiqsm.dataset.methods import (
    EARLIER_STEPS,
    METHOD_STEPS,
    N_REGIONS,
    citation_text,
    methods_text,
    write_citation,
)
from multiqsm.dataset.outputs import derivative_path
from multiqsm.dataset.tables import write_tsv

SCAN = ("mask", "unwrapping", "fieldmap", "pdf", "edges", "medi", "medi_scaled")
CSF, BRAIN = (
    "cerebrospinal fluid of the lateral ventricles, identified",
    "mean of the brain, because no cerebrospinal fluid",
)


def write_scan(root, subject, run, steps=SCAN, *, carried=(), regions=0, method="medi"):
    """Write the sidecars of a scan's map, of its map in the subject's space, and of its regions."""
    entities, own = (
        {"subject": subject, "run": run},
        {} if steps is None else {METHOD_STEPS: list(steps)},
    )
    name = {"suffix": "Chimap", "desc": method, "extension": ".json"}
    write_json(derivative_path(root, entities, **name), own)
    if carried:
        write_json(
            derivative_path(root, entities, space="subject", **name),
            {METHOD_STEPS: [*steps, *carried]},
        )
    if regions:
        path = derivative_path(root, entities, suffix="chi", desc="rois", extension=".json")
        write_json(path, {METHOD_STEPS: [*carried[1:], "regions_drawn"], N_REGIONS: regions})


def sentences(root, **options):
    return re.split(r"(?<=\.) (?=[A-Z])", methods_text(root, **options).split("\n\n")[2])


def sentence(root, text, **options):
    """Return the only sentence that contains a text, without its citations."""
    (match,) = [line for line in sentences(root, **options) if text in line]
    return re.sub(r" \[[\d, ]+\]", "", match)


def absent(root, *texts, **options):
    page = methods_text(root, **options)
    return not any(text in page for text in texts)


def test_steps_of_all_scans_have_no_numbers(tmp_path):
    for run in "12":
        write_scan(tmp_path, "01", run, carried=("registration", "csf_automatic"), regions=7)
    text = methods_text(tmp_path)
    assert " (in " not in text
    assert sentence(tmp_path, "registered rigidly").startswith(
        "The scans of a person were registered rigidly"
    )
    assert sentence(tmp_path, CSF).endswith("identified by R2* and position.")
    assert sentence(tmp_path, "7 regions") == "Susceptibility was measured in 7 regions per scan."
    assert absent(
        tmp_path,
        "MEDI compared complex phase factors",
        "closed-form",
        "single scan",
        "No region",
        BRAIN,
    )


def test_reference_that_some_people_have_instead(tmp_path):
    for subject, reference in (
        ("01", "csf_automatic"),
        ("02", "brain_as_fallback"),
        ("03", "csf_automatic"),
    ):
        for run in "12":
            write_scan(tmp_path, subject, run, carried=("registration", reference), regions=7)
    assert sentence(tmp_path, CSF).endswith("identified by R2* and position (in 2 of 3 people).")
    assert sentence(tmp_path, BRAIN).endswith("as a reference (in 1 of 3 people).")
    # Everybody's own report tells of them alone.
    scans_of_01 = ["sub-01_run-1", "sub-01_run-2"]
    scans_of_02 = ["sub-02_run-1", "sub-02_run-2"]
    assert absent(tmp_path, CSF, " (in ", scans=scans_of_02)
    assert sentence(tmp_path, BRAIN, scans=scans_of_02).endswith("was identified as a reference.")
    assert absent(tmp_path, BRAIN, scans=scans_of_01)


def test_single_scan_is_not_registered(tmp_path):
    write_scan(tmp_path, "01", "1", carried=("single_scan", "csf_automatic"), regions=1)
    assert absent(tmp_path, "registered rigidly")
    assert (
        sentence(tmp_path, "no registration was needed")
        == "For a person with a single scan, no registration was needed."
    )
    assert "in 1 region per" in methods_text(tmp_path)
    for run in "12":
        write_scan(tmp_path, "02", run, carried=("registration", "csf_automatic"), regions=1)
    assert absent(tmp_path, "registered rigidly", scans=["sub-01_run-1"])
    assert sentence(tmp_path, "registered rigidly").endswith("(in 1 of 2 people).")
    assert sentence(tmp_path, "no registration was needed").endswith("(in 1 of 2 people).")


def test_scans_that_could_not_be_registered_and_regions_that_were_not_measured(tmp_path):
    for run in "12":
        write_scan(
            tmp_path, "01", run, carried=("registration", "csf_automatic"), regions=6 + int(run)
        )
    write_scan(tmp_path, "01", "3")
    assert sentence(tmp_path, "could not be registered").endswith("(in 1 of 3 scans).")
    assert sentence(tmp_path, "7 to 8 regions").endswith("(in 2 of 3 scans).")
    assert (
        sentence(tmp_path, "No region was measured") == "No region was measured (in 1 of 3 scans)."
    )
    for run in "12":
        write_scan(tmp_path, "02", run)
    assert sentence(tmp_path, "could not be aligned").endswith("(in 1 of 2 people).")
    assert sentence(tmp_path, "could not be registered").endswith("(in 1 of 5 scans).")


def test_steps_of_some_scans(tmp_path):
    """Two methods of background removal, a user's mask, a single echo, and an inversion with only
    one map.
    """
    write_scan(tmp_path, "01", "1")
    write_scan(
        tmp_path, "01", "1", (*SCAN[:3], "pdf", "deterministic", "gcv"), method="deterministic"
    )
    write_scan(
        tmp_path,
        "01",
        "2",
        ("user_mask", "single_unwrapping", "single_fieldmap", "vsharp", "medi", "medi_fixed"),
    )
    for text in (
        "closed-form dipole inversion",
        "V-SHARP",
        "projection onto dipole fields",
        "provided with the scan",
    ):
        assert sentence(tmp_path, text).endswith(" (in 1 of 2 scans).")
    assert sentence(tmp_path, "(MEDI), with an L1 penalty on gradients").endswith(
        "split Bregman iterations."
    )


def test_phantoms_do_not_count_as_people(tmp_path):
    write_scan(tmp_path, "ph", "1", ("phantom", "phantom_mask", *SCAN[1:]), regions=0)
    for run in "12":
        write_scan(tmp_path, "01", run, carried=("registration", "csf_automatic"), regions=3)
    assert sentence(tmp_path, "Scans of phantoms").endswith(
        "relative to the mean of the phantom (in 1 of 3 scans)."
    )
    assert sentence(tmp_path, CSF).endswith("position.")
    assert absent(tmp_path, "could not be")


def test_labelled_reference_has_its_name(tmp_path):
    name = {"suffix": "Chimap", "desc": "medi", "extension": ".json"}
    sidecar = {METHOD_STEPS: [*SCAN, "single_scan", "label"], "ReferenceRegion": "white matter"}
    write_json(derivative_path(tmp_path, {"subject": "01"}, space="subject", **name), sidecar)
    write_json(derivative_path(tmp_path, {"subject": "01"}, **name), {METHOD_STEPS: list(SCAN)})
    assert "the mean of a labelled region (white matter)" in methods_text(tmp_path)


def test_maps_of_an_earlier_version_and_steps_of_a_later_one(tmp_path):
    write_scan(tmp_path, "01", "1", steps=None)
    write_scan(tmp_path, "01", "2", (*SCAN, "magic"))
    assert sentence(tmp_path, "contain no record of how they were computed").endswith(
        "(in 1 of 2 scans)."
    )
    assert sentence(tmp_path, "projection onto").endswith("(in 1 of 2 scans).")


def test_steps_of_earlier_versions_have_their_sentences(tmp_path):
    names = load_template("citation")["steps"].keys()
    assert not EARLIER_STEPS.keys() & names
    for run, (earlier, current) in enumerate(EARLIER_STEPS.items(), start=1):
        subjects = [f"{run}earlier", f"{run}current"]
        write_scan(tmp_path, subjects[0], "1", (*SCAN, earlier))
        write_scan(tmp_path, subjects[1], "1", (*SCAN, current))
        texts = [methods_text(tmp_path, [f"sub-{subject}_run-1"]) for subject in subjects]
        assert texts[0] == texts[1]
        assert load_template("citation")["steps"][current]["text"] in texts[0]


def test_empty_dataset_has_a_minimal_methods_text(tmp_path):
    assert len(sentences(tmp_path)) == 2
    path = write_citation(tmp_path)
    assert path == tmp_path / "logs" / "CITATION.md"
    assert path.read_text() == methods_text(tmp_path)


def test_steps_of_a_regression_model_are_those_that_its_tables_show(tmp_path):
    """Without images, the text is of the model alone; texts of single scans leave it out."""
    folder = tmp_path / "group" / "model-thalamus"
    folder.mkdir(parents=True)
    write_tsv(folder / "ladder.tsv", pd.DataFrame({"column": ["x"]}))
    write_tsv(folder / "power.tsv", pd.DataFrame({"n": []}))
    write_tsv(folder / "diagnostics.tsv", pd.DataFrame({"adjusted": [False]}))
    text = methods_text(tmp_path)
    assert "ordinary least squares" in text
    assert "ladder of powers" in text
    assert "2018;39(3):467-472" in text
    assert "power of the test" not in text  # no subset had enough patients
    assert "after adjustment" not in text
    assert "ordinary least squares" not in methods_text(tmp_path, ["sub-01"])
    write_tsv(folder / "diagnostics.tsv", pd.DataFrame({"adjusted": [False, True]}))
    assert "before and after adjustment" in methods_text(tmp_path)
    folder.rename(folder.with_name("model-own"))
    assert "2018;39(3):467-472" not in methods_text(tmp_path)


def test_papers_are_numbered_in_the_order_of_the_text():
    text = citation_text(
        {"pdf": "", "gcv": "(in 1 of 2 scans)", "unwrapping": "", "deterministic": ""}
    )
    assert "(PDF), weighted by the inverse of the field's standard error [5]." in text
    assert "by generalised cross-validation (in 1 of 2 scans) [7]." in text
    assert "5. Liu T, " in text
    assert "10.3174/ajnr.A4137" in text
    assert "Nipype" in text
    assert "Morphology" not in text


def test_step_without_a_text():
    with pytest.raises(ValueError, match="No citation for magic: the template has bids, phantom"):
        citation_text({"magic": ""})


def test_every_reference_is_cited_and_exists():
    template = load_template("citation")
    cited = set()
    for step in template["steps"].values():
        cited.update(step["references"])
    assert cited == set(template["references"])
