"""Nipype's plugins made fault tolerant, and the internals of Nipype that they depend on."""

import inspect
from hashlib import sha256

import pytest

from multiqsm.execution.plugins import NIPYPE_INTERNALS, Runner

# Digests of the code in Nipype 1.11. If one differs, check that execution/plugins.py still works.
EXPECTED_DIGESTS = {
    "MultiProcPlugin.__init__": "43dcfc963aeb",
    "MultiProcPlugin._submit_job": "45ab2b71e0ea",
    "MultiProcPlugin._get_result": "eef812609dec",
    "MultiProcPlugin._postrun_check": "3e31aa0e01e7",
    "MultiProcPlugin._clear_task": "fed8431bab97",
    "SGELikeBatchManagerBase.__init__": "f81b757d0dfb",
    "SGELikeBatchManagerBase._submit_batchtask": "9620027cd362",
    "SGELikeBatchManagerBase._is_pending": "8e79a5972454",
    "SGELikeBatchManagerBase._get_result": "48f040cd2d2c",
    "SGELikeBatchManagerBase._clear_task": "88af0d93420e",
    "DistributedPluginBase.run": "9aa2d33cb4e0",
    "DistributedPluginBase._report_crash": "3954cba067c2",
    "SLURMPlugin._is_pending": "46f87d3ce0a5",
    "SLURMPlugin._submit_batchtask": "8520a4521001",
    "PBSPlugin._is_pending": "820ebf458795",
    "PBSPlugin._submit_batchtask": "1eaacc6e7c20",
    "SGEPlugin._is_pending": "365b3d1d609f",
    "SGEPlugin._submit_batchtask": "ca123eab1275",
    "LSFPlugin._is_pending": "826f1fd448be",
    "LSFPlugin._submit_batchtask": "347bfffffc41",
    "OARPlugin._is_pending": "6abfa2f0566f",
    "OARPlugin._submit_batchtask": "82ff8f461e50",
    "report_crash": "1a9755d44311",
    "process_initializer": "57e7b6c1aa36",
    "run_node": "d41b80a7108f",
}


def digest(code):
    return sha256(inspect.getsource(code).encode()).hexdigest()[:12]


def test_internals_of_nipype_are_unchanged():
    digests = {}
    for owner, names in NIPYPE_INTERNALS.items():
        if not names:
            digests[owner.__name__] = digest(owner)
        for name in names:
            digests[f"{owner.__name__}.{name}"] = digest(getattr(owner, name))
    assert digests == EXPECTED_DIGESTS


@pytest.mark.parametrize("plugin", ["MultiProc", "SLURM", "PBS", "SGE", "LSF", "OAR"])
def test_every_private_method_that_is_overridden_is_listed(plugin):
    classes = Runner(plugin, {})._class.__mro__
    names = set()
    for owner in classes:
        if owner.__module__ == "multiqsm.execution.plugins":
            names.update(vars(owner))
    nipype_classes = [owner for owner in classes if owner.__module__.startswith("nipype")]
    for name in names:
        if not name.startswith("_") or name.startswith("__"):
            continue
        for owner in nipype_classes:
            if name in vars(owner):
                assert name in NIPYPE_INTERNALS.get(owner, ()), f"{owner.__name__}.{name}"
                break


@pytest.mark.parametrize("name", ["SLURMGraph", "PBSGraph", "Abacus"])
def test_plugins_that_do_not_report_the_status_of_jobs_are_refused(name):
    with pytest.raises(ValueError, match=r"does not report|no plugin"):
        Runner(name, {})
