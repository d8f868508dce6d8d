"""What is built upon Nipype's plugins, and what Nipype does not promise to keep."""

import inspect
from hashlib import sha256

import pytest

from multiqsm.execution.plugins import BUILT_UPON, Runner

# Of Nipype 1.11: digests of what stands there. Where one differs, see whether execution/plugins.py
# is still right.
SEEN = {
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


def digest(what):
    return sha256(inspect.getsource(what).encode()).hexdigest()[:12]


def test_nipype_is_as_it_was_when_it_was_built_upon():
    found = {}
    for owner, names in BUILT_UPON.items():
        if not names:
            found[owner.__name__] = digest(owner)
        for name in names:
            found[f"{owner.__name__}.{name}"] = digest(getattr(owner, name))
    assert found == SEEN


@pytest.mark.parametrize("plugin", ["MultiProc", "SLURM", "PBS", "SGE", "LSF", "OAR"])
def test_every_private_method_that_is_overridden_is_listed(plugin):
    chosen = Runner(plugin, {})._class
    own = [parent for parent in chosen.__mro__ if parent.__module__ == "multiqsm.execution.plugins"]
    nipypes = [parent for parent in chosen.__mro__ if parent.__module__.startswith("nipype")]
    for name in {name for parent in own for name in vars(parent)}:
        if not name.startswith("_") or name.startswith("__"):
            continue
        owner = next((parent for parent in nipypes if name in vars(parent)), None)
        assert owner is None or name in BUILT_UPON.get(owner, ()), f"{owner.__name__}.{name}"


@pytest.mark.parametrize("name", ["SLURMGraph", "PBSGraph", "Abacus"])
def test_plugins_that_tell_nothing_are_refused(name):
    with pytest.raises(ValueError, match=r"does not tell|no plugin"):
        Runner(name, {})
