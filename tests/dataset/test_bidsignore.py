"""What .bidsignore and filters exclude is passed over, and listed with the line that did it."""

import pytest
from helpers.datasets import write_dataset

from multiqsm.cli import audit
from multiqsm.dataset.bidsignore import IgnoredFiles
from multiqsm.dataset.collection import collect_scans
from multiqsm.dataset.problems import DatasetError, Problem

IMAGE = "sub-01/ses-A/anat/sub-01_ses-A_acq-bad_echo-1_part-mag_MEGRE.nii.gz"


@pytest.mark.parametrize(
    ("lines", "is_ignored"),
    [
        ("**/*acq-bad*", True),
        ("*acq-bad*", True),
        ("*_MEGRE.nii.gz", True),
        ("sub-01", True),
        ("sub-01/", True),
        ("/sub-01/ses-A/**", True),
        ("sub-0[12]/*/anat/", True),
        ("sub-01/**/*acq-bad*\r\n", True),
        ("ses-A/   ", True),
        ("/**/anat/*echo-?_*", True),
        # Relative to the dataset, if there is a slash within; a star does not match one.
        ("/*acq-bad*", False),
        ("ses-A/anat", False),
        ("sub-01/*acq-bad*", False),
        ("sub-0[!12]", False),
        ("sub-01/ses-A/anat/*acq-bad*/", False),  # only folders
        ("*acq-good*", False),
        ("*ACQ-bad*", False),
        ("# **/*acq-bad*", False),
        ("\\#x\n\n  \n", False),
        ("\n\n  \n# folder\nsub-01/", True),
        # Later lines have precedence, except within a folder that is listed itself.
        ("*acq-bad*\n!*acq-bad*", False),
        ("!*acq-bad*\n*acq-bad*", True),
        ("sub-01/\n!*acq-bad*", True),
    ],
)
def test_patterns_are_those_of_gitignore(tmp_path, lines, is_ignored):
    (tmp_path / ".bidsignore").write_text(lines, newline="")
    rule = IgnoredFiles(tmp_path).rule_of(tmp_path / IMAGE)
    assert bool(rule) is is_ignored


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """Return a dataset with a scan that .bidsignore lists, and a part of another one."""
    root = tmp_path_factory.mktemp("bids")
    write_dataset(root, acquisitions=(None, "bad"), echo_times=(0.006, 0.012, 0.018))
    anat = root / "sub-01/anat"
    (anat / "sub-01_acq-bad_echo-1_inv_part_MEGRE.nii.gz").touch()  # not even a BIDS name
    (root / ".bidsignore").write_text("derivatives/\n**/*acq-bad*\n*_echo-3_*\n")
    return root


def test_ignored_scans_are_passed_over_and_listed(dataset):
    (scan,), left_out = collect_scans(dataset)
    assert (scan.label, scan.echo_times) == ("sub-01", (0.006, 0.012))
    reason = "listed in .bidsignore (**/*acq-bad*)"
    misnamed = "sub-01_acq-bad_echo-1_inv_part_MEGRE.nii.gz"
    assert Problem("sub-01_acq-bad", "", reason, "", "unused", "01") in left_out
    assert Problem(misnamed, "", reason, "", "unused", "01") in left_out
    echo = "2 images not used: listed in .bidsignore (*_echo-3_*)"
    assert Problem("sub-01", "", echo, "", "note", "01") in left_out


def test_filters_and_bidsignore_are_listed_alike_by_the_audit(dataset, tmp_path, capsys):
    options = ["--no-sign-check", "--output", str(tmp_path / "audit.tsv")]
    assert audit.main([str(dataset), *options]) == 0
    printed = capsys.readouterr().out
    assert "unused: sub-01_acq-bad: listed in .bidsignore (**/*acq-bad*)" in printed
    filter_file = tmp_path / "filter.json"
    filter_file.write_text('{"megre": {"acquisition": null}}')
    hidden = dataset / ".bidsignore"
    hidden.rename(dataset / "bidsignore")
    (dataset / "sub-01/anat/sub-01_acq-bad_echo-1_inv_part_MEGRE.nii.gz").unlink()
    assert audit.main([str(dataset), *options, "--bids-filter-file", str(filter_file)]) == 0
    printed = capsys.readouterr().out
    assert "unused: sub-01_acq-bad: removed by --bids-filter-file, acquisition null" in printed
    assert "2 scans: 1 ok, 0 with warnings, 0 with errors, 1 not used" in printed


def test_dataset_that_ignores_all_its_scans(tmp_path):
    write_dataset(tmp_path, echo_times=(0.006,))
    (tmp_path / ".bidsignore").write_text("*_MEGRE.*\n")
    with pytest.raises(DatasetError, match=r"\.bidsignore lists every image \(\*_MEGRE\.\*\)"):
        collect_scans(tmp_path)


def test_line_that_is_no_pattern_is_named(tmp_path):
    (tmp_path / ".bidsignore").write_text("derivatives/\n[z-a]\n")
    with pytest.raises(DatasetError, match=r"\.bidsignore: \[z-a\] is not a pattern"):
        IgnoredFiles(tmp_path)


def test_bidsignore_without_content(tmp_path):
    write_dataset(tmp_path, echo_times=(0.006,))
    (tmp_path / ".bidsignore").symlink_to(".git/annex/objects/x")
    with pytest.raises(DatasetError, match=r"\.bidsignore.*content is not available"):
        collect_scans(tmp_path)
