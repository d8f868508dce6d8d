"""Fault tolerance of a run: killed processes, a full disk, a second run at the same time."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers.chores import Chores, Item

from multiqsm.dataset.problems import DatasetError
from multiqsm.execution.code import ROOT, code_of
from multiqsm.execution.completion import (
    COMPLETION_RECORDS,
    completion_record_path,
    fingerprint,
    is_finished,
    write_completion_record,
)
from multiqsm.execution.locks import hold_subjects
from multiqsm.execution.plugins import LOST, Runner, check_cluster_paths
from multiqsm.execution.run import configure_nipype
from multiqsm.execution.stages import run_stage


@pytest.fixture
def chores(tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    work = tmp_path / "work"
    return Chores(output_dir=out, work_dir=work, settings=None), configure_nipype(work)


def run_chores(chores, deeds, *, retries=1, by_step=False, plugin="MultiProc"):
    """Run one item per deed, by two processes or a scheduler; returns failures and the lines for
    the user.
    """
    stage, run_dir = chores
    items = [Item(f"scan_{place}", deed) for place, deed in enumerate(deeds)]
    lines = []
    with Runner(plugin, {"n_procs": 2, "memory_gb": 2} if plugin == "MultiProc" else {}) as runner:
        failures = run_stage(
            stage,
            items,
            runner=runner,
            by_step=by_step,
            retries=retries,
            run_dir=run_dir,
            notify=lines.append,
        )
    return failures, lines


@pytest.mark.slow
@pytest.mark.parametrize("by_step", [False, True])
def test_item_of_a_killed_process_is_started_again_and_others_are_unaffected(chores, by_step):
    failures, lines = run_chores(chores, ["work", "die once", "work", "work"], by_step=by_step)
    assert failures == []
    assert any("scan_1" in line and "is started again (1 of 1)" in line for line in lines)
    stage, _ = chores
    records = sorted((stage.output_dir / COMPLETION_RECORDS / "chores").iterdir())
    assert [path.stem for path in records] == ["scan_0", "scan_1", "scan_2", "scan_3"]


@pytest.mark.slow
def test_item_that_is_lost_at_every_attempt_is_reported_as_failed(chores):
    failures, lines = run_chores(chores, ["die", "work", "err", "work"], retries=2)
    failure_of_scan = {failure.scan: failure for failure in failures}
    assert set(failure_of_scan) == {"scan_0", "scan_2"}
    assert failure_of_scan["scan_0"].is_lost
    assert "memory" in failure_of_scan["scan_0"].message
    assert failure_of_scan["scan_2"].cause == "ValueError: no brain in it"
    assert not failure_of_scan["scan_2"].is_lost
    assert sum("scan_0" in line for line in lines) == 2
    assert "scan_2" not in "".join(lines)  # an exception of a step is not tried again


@pytest.mark.slow
def test_finished_items_are_skipped(chores):
    stage, _ = chores
    assert run_chores(chores, ["work", "err"])[0]
    before = completion_record_path(stage.output_dir, "chores", "scan_0").stat().st_mtime_ns
    failures, lines = run_chores(chores, ["work", "work"])
    assert failures == []
    assert lines[0] == "chores already finished and skipped: 1 of 2"
    assert completion_record_path(stage.output_dir, "chores", "scan_0").stat().st_mtime_ns == before


@pytest.mark.slow
def test_a_large_study_is_run_in_parts(chores, monkeypatch):
    monkeypatch.setattr("multiqsm.execution.stages.ITEMS_PER_GRAPH", 2)
    failures, lines = run_chores(chores, ["work", "err", "work"])
    assert [failure.scan for failure in failures] == ["scan_1"]
    assert lines == [
        "processing scan_0 to scan_1 of 3 chores",
        "processing scan_2 to scan_2 of 3 chores",
    ]


# Scripts in place of the commands of two schedulers, with processes of this machine as jobs.
SUBMIT = """#!/bin/sh
for last; do :; done
sh "$last" > /dev/null 2>&1 &
printf '{answer}' $!
"""
ASK = """#!/bin/sh
for last; do :; done
if kill -0 "$last" 2> /dev/null; then echo '{runs}'; else echo '{ended}'; fi
"""
CANCEL = """#!/bin/sh
echo "$@" > {cancelled}
kill "$@"
"""
SCHEDULERS = {
    "PBS": {
        "qsub": SUBMIT.format(answer="%s.server\\n"),
        "qstat": ASK.format(runs="job_state = R", ended="job_state = C"),
        "qdel": CANCEL,
    },
    "LSF": {
        "bsub": SUBMIT.format(answer="Job <%s> is submitted\\n"),
        "bjobs": ASK.format(runs="RUN", ended="DONE"),
        "bkill": CANCEL,
    },
}


@pytest.fixture(params=SCHEDULERS)
def scheduler(request, tmp_path, monkeypatch):
    """Name of a scheduler whose commands exist; the one that cancels jobs writes their numbers to
    ``cancelled``.
    """
    commands = tmp_path / "bin"
    commands.mkdir()
    for name, text in SCHEDULERS[request.param].items():
        (commands / name).write_text(text.replace("{cancelled}", str(tmp_path / "cancelled")))
        (commands / name).chmod(0o755)
    monkeypatch.chdir(tmp_path)  # Nipype writes the output of qstat to the working directory
    monkeypatch.setenv("PATH", f"{commands}:{os.environ['PATH']}")
    monkeypatch.setenv(
        "PYTHONPATH", os.pathsep.join([str(Path(__file__).parents[1]), *filter(None, sys.path)])
    )
    return request.param


@pytest.mark.slow
def test_other_schedulers_by_their_plugin_names(chores, scheduler):
    failures, lines = run_chores(chores, ["work", "die once", "err"], plugin=scheduler)
    (failure,) = failures
    assert (failure.scan, failure.cause) == ("scan_2", "ValueError: no brain in it")
    (lost,) = [line for line in lines if "lost: scan_1" in line]
    assert "ended without a result; it is started again (1 of 1)" in lost


@pytest.mark.slow
def test_jobs_are_cancelled_when_the_run_is_interrupted(chores, scheduler, tmp_path):
    stage, _ = chores
    workflow = stage.build([Item("scan_0", "work"), Item("scan_1", "work")])
    started = []

    def interrupt_the_second(node, status):
        started.append(node)
        if len(started) == 2:
            raise KeyboardInterrupt

    with Runner(scheduler, {}) as runner, pytest.raises(KeyboardInterrupt):
        runner.run(workflow, interrupt_the_second)
    (job,) = (tmp_path / "cancelled").read_text().split()
    assert ends(int(job))


@pytest.mark.slow
def test_job_that_the_scheduler_refuses_is_reported(chores, scheduler, tmp_path):
    submit = next(iter(SCHEDULERS[scheduler]))
    (tmp_path / "bin" / submit).write_text("#!/bin/sh\necho 'no such queue' >&2\nexit 1\n")
    (failure,), _ = run_chores(chores, ["work"], plugin=scheduler, retries=0)
    refusal, script = failure.cause.split(
        "; to see why, submit the script by hand with your plugin arguments: "
    )
    assert refusal == f"{LOST}: the scheduler refused the job: it returned no job number"
    assert Path(script).is_file()


def ends(process):
    """Check whether a process ends within 10 s."""
    for _ in range(100):
        try:
            if Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z":
                return True
        except FileNotFoundError:
            return True
        time.sleep(0.1)
    return False


def test_worker_ends_with_its_run(tmp_path):
    """A worker whose parent was killed would go on writing beside the next run."""
    code = (
        "import os, time\n"
        "from multiqsm.execution.plugins import FaultTolerantMultiProcPlugin\n"
        "if __name__ == '__main__':\n"
        "    pool = FaultTolerantMultiProcPlugin({'n_procs': 1, 'memory_gb': 1}).new_pool()\n"
        "    print(pool.submit(os.getpid).result(), flush=True)\n"
        "    time.sleep(60)\n"
    )
    script = tmp_path / "parent.py"
    script.write_text(code)
    with subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True) as parent:
        worker = int(parent.stdout.readline())
        parent.kill()
    assert ends(worker)


def test_completion_record_is_valid_for_its_inputs_and_files_only(tmp_path):
    source = tmp_path / "in.nii"
    source.write_bytes(b"1")
    image = tmp_path / "out" / "sub-01" / "map.nii.gz"
    image.parent.mkdir(parents=True)
    image.write_bytes(b"22")
    image.with_name("map.json").write_text("{}")

    def item():
        return tmp_path / "out", "scans", "sub-01", fingerprint({"file": source})

    assert not is_finished(*item())
    record = write_completion_record(*item(), [image], software="0.1.0")
    assert set(json.loads(record.read_text())["Files"]) == {"sub-01/map.json", "sub-01/map.nii.gz"}
    assert is_finished(*item())
    os.utime(source, ns=(0, 0))
    assert not is_finished(*item())
    write_completion_record(*item(), [image], software="0.1.0")
    assert is_finished(*item())
    image.write_bytes(b"2")
    assert not is_finished(*item())
    record.write_text('{"Fingerprint": ')
    assert not is_finished(*item())


def copy_of_package(tmp_path):
    """Copy the files of the package to a folder where they can be edited."""
    root = tmp_path / "multiqsm"
    for pattern in ("*.py", "*.json", "*.html"):
        for path in ROOT.rglob(pattern):
            place = path.relative_to(ROOT)
            top = place.parts[0]
            if top not in ("tests", "benchmarks", "build") and not top.startswith("."):
                (root / place).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, root / place)
    return root


@pytest.mark.parametrize(
    ("module", "code"),
    [
        (
            "workflows.scans",
            {
                "core/inversion/morphology.py",
                "interfaces/inversion.py",
                "bids_templates/citation.json",
            },
        ),
        (
            "workflows.subjects",
            {"core/registration/midspace.py", "interfaces/regions.py", "pictures/overlays.py"},
        ),
        (
            "workflows.reports",
            {"reports/templates/report.html", "reports/subject.py", "interfaces/reports.py"},
        ),
    ],
)
def test_results_depend_on_their_own_code_only(tmp_path, module, code):
    root = copy_of_package(tmp_path)
    files = {path.relative_to(root).as_posix() for path in code_of(f"multiqsm.{module}", root)}
    assert code <= files
    independent = {
        "reports/templates/report.html",
        "reports/group.py",
        "reports/group_parts.py",
        "cli/app.py",
        "execution/run.py",
        "bids_templates/model_tables.json",
        "bids_templates/published.json",
    } - code
    assert not independent & files
    assert not {file for file in files if file.startswith(("simulation/", "cohort/"))}


def files_of(workflow):
    """Files that the results of a workflow depend on, relative to the package."""
    paths = code_of(f"multiqsm.workflows.{workflow}", ROOT)
    return {path.relative_to(ROOT).as_posix() for path in paths}


def test_reports_depend_neither_on_the_code_of_maps_nor_on_that_of_pictures_of_volumes():
    """A report shows existing pictures, and maps of scans do not depend on pictures of subjects."""
    of_reports = files_of("reports")
    assert not {file for file in of_reports if file.startswith("core/")}
    assert not {"pictures/slices.py", "pictures/overlays.py", "interfaces/figures.py"} & of_reports
    of_scans = files_of("scans")
    assert "pictures/slices.py" in of_scans
    assert not {"pictures/overlays.py", "interfaces/subject_figures.py"} & of_scans


def test_two_runs_on_one_subject_are_refused_and_on_two_are_not(tmp_path):
    code = (
        "import sys, time\n"
        "from multiqsm.execution.locks import hold_subjects\n"
        "with hold_subjects(sys.argv[1], ['01', '02']):\n"
        "    print('held', flush=True)\n"
        "    time.sleep(60)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, tmp_path], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "held\n"
        with hold_subjects(tmp_path, ["03", "04"]):
            pass
        busy = pytest.raises(DatasetError, match="another run is processing sub-02 into")
        with busy, hold_subjects(tmp_path, ["02", "03"]):
            pass
        process.kill()
    with hold_subjects(tmp_path, ["01", "02"]):  # the lock was released with its process
        pass


@pytest.mark.slow
@pytest.mark.parametrize("by_step", [False, True])
def test_two_runs_never_process_one_scan_in_one_work_folder_at_the_same_time(
    chores, by_step, capfd
):
    stage, _ = chores
    code = (
        "import os, sys, time\n"
        "from multiqsm.execution.locks import hold_work\n"
        "with hold_work(sys.argv[1], ['chores scan_0']):\n"
        "    print('held', flush=True)\n"
        "    file = os.stat(os.path.join(sys.argv[1], 'work.lock')).st_ino\n"
        "    while not any('->' in line and f':{file} ' in line for line in open('/proc/locks')):\n"
        "        time.sleep(0.1)\n"
        "    time.sleep(0.5)\n"
        "    open(sys.argv[2], 'w').write(str(time.time_ns()))\n"
    )
    ended = stage.work_dir / "ended"
    # It holds the lock until another process waits for it.
    command = [sys.executable, "-c", code, stage.work_dir, ended]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        assert run_chores(chores, ["work"], by_step=by_step) == ([], [])
    message = f"waiting: another run is working on chores scan_0 in {stage.work_dir}"
    assert message in capfd.readouterr().err
    (result,) = stage.output_dir.glob("*.txt")
    assert result.stat().st_mtime_ns > int(ended.read_text())


def test_item_that_needs_more_space_than_the_disk_has_is_refused(chores, monkeypatch):
    monkeypatch.setattr(Chores, "work_gigabytes", lambda self, item: 1e9)
    with pytest.raises(ValueError, match="GB free, but one of the chores needs up to 1000000000"):
        run_chores(chores, ["work"])


def test_paths_with_spaces_are_refused_for_batch_jobs():
    check_cluster_paths("/data/work-1/a_b")
    with pytest.raises(ValueError, match="spaces"):
        check_cluster_paths("/data/my work")


@pytest.mark.slow
def test_interrupted_run_ends_soon_and_reports_how_to_continue(make_dataset, ball_head):
    root = make_dataset(subjects=("01", "02", "03"), **ball_head)
    command = [sys.executable, "-m", "multiqsm", str(root), str(root.parent / "out")]
    command += ["participant", "--n-procs", "2"]
    with subprocess.Popen(command, cwd=root.parent, stderr=subprocess.PIPE, text=True) as process:
        assert "1/3 scans" in process.stderr.readline()
        process.terminate()
        _, stderr = process.communicate(timeout=30)
        assert process.returncode == 130
    assert "interrupted; the same command continues from here" in stderr
    assert "Traceback" not in stderr
