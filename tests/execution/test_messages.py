"""Lines for the user: progress of a run by BIDS labels, and failures in words."""

from io import StringIO
from pathlib import Path
from types import SimpleNamespace

from helpers.chores import Worker
from nipype.pipeline.engine import Node, Workflow

from multiqsm import core, dataset
from multiqsm.dataset.content import MissingContentError
from multiqsm.dataset.images import UnreadableImageError
from multiqsm.dataset.problems import DatasetError, UnusableScanError
from multiqsm.execution.failures import OWN_ERRORS, Failure
from multiqsm.execution.progress import Progress


def test_progress_shows_labels():
    scan = Workflow("sub_01_ses_B_run_1")
    scan.add_nodes([Node(Worker(), name="fit")])
    run = Workflow("scans")
    run.add_nodes([scan])
    progress = Progress.of(run, "scans", {"sub_01_ses_B_run_1": "sub-01_ses-B_run-1"})
    progress.stream = StringIO()
    progress(SimpleNamespace(fullname="scans.sub_01_ses_B_run_1.fit", name="fit"), "end")
    assert progress.stream.getvalue().endswith("] sub-01_ses-B_run-1 done\n")


def test_failures_of_this_package_have_no_name_of_a_class():
    kinds = [DatasetError, *DatasetError.__subclasses__()]
    assert {MissingContentError, UnreadableImageError, UnusableScanError} <= set(kinds)
    for kind in kinds:
        assert kind.__name__ in OWN_ERRORS
        failure = Failure("sub_01", "read", kind.__name__, "no image", Path("crash.txt"))
        assert str(failure).startswith("step read: no image\n")
    assert Failure("sub_01", "read", "KeyError", "'x'", Path("crash.txt")).cause == "KeyError: 'x'"


def test_own_errors_exist():
    sources = []
    for package in (core, dataset):
        for path in Path(package.__file__).parent.rglob("*.py"):
            sources.append(path.read_text())
    for name in OWN_ERRORS:
        assert any(f"class {name}(" in source for source in sources)
