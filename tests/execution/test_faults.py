"""What happens to a run from outside: killed processes, a full disk, a second run, and what is left
afterwards.
"""

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
    out, work = tmp_path / "out", tmp_path / "work"
    out.mkdir()
    return Chores(output_dir=out, work_dir=work, settings=None), configure_nipype(work)


def run_chores(chores, deeds, *, retries=1, by_step=False, plugin="MultiProc"):
    """Run one item per deed, by two processes or a scheduler; returns failures and what the user
    was told.
    """
    stage, run_dir = chores
    items, told = [Item(f"scan_{place}", deed) for place, deed in enumerate(deeds)], []
    with Runner(plugin, {"n_procs": 2, "memory_gb": 2} if plugin == "MultiProc" else {}) as runner:
        failures = run_stage(
            stage,
            items,
            runner=runner,
            by_step=by_step,
            retries=retries,
            run_dir=run_dir,
            tell=told.append,
        )
    return failures, told


@pytest.mark.slow
@pytest.mark.parametrize("by_step", [False, True])
def test_a_killed_process_takes_nobody_with_it_and_begins_again(chores, by_step):
    failures, told = run_chores(chores, ["work", "die once", "work", "work"], by_step=by_step)
    assert failures == []
    assert any("scan_1" in line and "starts again (1 of 1)" in line for line in told)
    stage, _ = chores
    assert sorted(
        path.stem for path in (stage.output_dir / COMPLETION_RECORDS / "chores").iterdir()
    ) == [
        "scan_0",
        "scan_1",
        "scan_2",
        "scan_3",
    ]


@pytest.mark.slow
def test_one_that_dies_each_time_is_given_up_and_named(chores):
    failures, told = run_chores(chores, ["die", "work", "err", "work"], retries=2)
    of_scan = {failure.scan: failure for failure in failures}
    assert set(of_scan) == {"scan_0", "scan_2"}
    assert of_scan["scan_0"].is_lost
    assert "memory" in of_scan["scan_0"].message
    assert of_scan["scan_2"].cause == "ValueError: no brain in it"
    assert not of_scan["scan_2"].is_lost
    assert sum("scan_0" in line for line in told) == 2
    assert not any("scan_2" in line for line in told)  # an error of its own is no accident


@pytest.mark.slow
def test_what_is_finished_is_not_made_again(chores):
    stage, _ = chores
    assert run_chores(chores, ["work", "err"])[0]
    before = completion_record_path(stage.output_dir, "chores", "scan_0").stat().st_mtime_ns
    failures, told = run_chores(chores, ["work", "work"])
    assert failures == []
    assert told[0] == "1 of 2 chores were finished before and are not made again"
    assert completion_record_path(stage.output_dir, "chores", "scan_0").stat().st_mtime_ns == before


@pytest.mark.slow
def test_a_large_study_is_run_in_parts(chores, monkeypatch):
    monkeypatch.setattr("multiqsm.execution.stages.AT_ONCE", 2)
    failures, told = run_chores(chores, ["work", "err", "work"])
    assert [failure.scan for failure in failures] == ["scan_1"]
    assert told == ["scan_0 to scan_1, of 3 chores in all", "scan_2 to scan_2, of 3 chores in all"]


# The commands of two schedulers as far as Nipype uses them, with this machine's processes as jobs.
SUBMIT = """#!/bin/sh
for last; do :; done
sh "$last" > /dev/null 2>&1 &
printf '{told}' $!
"""
ASK = """#!/bin/sh
for last; do :; done
if kill -0 "$last" 2> /dev/null; then echo '{runs}'; else echo '{ended}'; fi
"""
TAKE_BACK = """#!/bin/sh
echo "$@" > {taken}
kill "$@"
"""
SCHEDULERS = {
    "PBS": {
        "qsub": SUBMIT.format(told="%s.server\\n"),
        "qstat": ASK.format(runs="job_state = R", ended="job_state = C"),
        "qdel": TAKE_BACK,
    },
    "LSF": {
        "bsub": SUBMIT.format(told="Job <%s> is submitted\\n"),
        "bjobs": ASK.format(runs="RUN", ended="DONE"),
        "bkill": TAKE_BACK,
    },
}


@pytest.fixture(params=SCHEDULERS)
def scheduler(request, tmp_path, monkeypatch):
    """Name of a scheduler whose commands are there; the one that takes jobs back notes which in
    ``taken``.
    """
    commands = tmp_path / "bin"
    commands.mkdir()
    for name, text in SCHEDULERS[request.param].items():
        (commands / name).write_text(text.replace("{taken}", str(tmp_path / "taken")))
        (commands / name).chmod(0o755)
    monkeypatch.chdir(tmp_path)  # Nipype leaves what qstat says in the working directory
    monkeypatch.setenv("PATH", f"{commands}:{os.environ['PATH']}")
    monkeypatch.setenv(
        "PYTHONPATH", os.pathsep.join([str(Path(__file__).parents[1]), *filter(None, sys.path)])
    )
    return request.param


@pytest.mark.slow
def test_other_schedulers_by_their_plugin_names(chores, scheduler):
    failures, told = run_chores(chores, ["work", "die once", "err"], plugin=scheduler)
    assert [(failure.scan, failure.cause) for failure in failures] == [
        ("scan_2", "ValueError: no brain in it")
    ]
    assert any(
        "lost: scan_1" in line and "ended without a word; it starts again (1 of 1)" in line
        for line in told
    )


@pytest.mark.slow
def test_jobs_are_taken_back_when_the_run_is_interrupted(chores, scheduler, tmp_path):
    stage, _ = chores
    workflow, started = stage.build([Item("scan_0", "work"), Item("scan_1", "work")]), []

    def interrupt_the_second(node, status):
        started.append(node)
        if len(started) == 2:
            raise KeyboardInterrupt

    with Runner(scheduler, {}) as runner, pytest.raises(KeyboardInterrupt):
        runner.run(workflow, interrupt_the_second)
    (job,) = (tmp_path / "taken").read_text().split()
    assert ends(int(job))


@pytest.mark.slow
def test_job_that_the_scheduler_refuses_is_told(chores, scheduler, tmp_path):
    submit = next(iter(SCHEDULERS[scheduler]))
    (tmp_path / "bin" / submit).write_text("#!/bin/sh\necho 'no such queue' >&2\nexit 1\n")
    (failure,), _ = run_chores(chores, ["work"], plugin=scheduler, retries=0)
    refusal, script = failure.cause.split("; to see why, submit it by hand, with your arguments: ")
    assert refusal == f"{LOST}: the scheduler refused the job: it gave no number to it"
    assert Path(script).is_file()


def ends(process):
    """Whether a process ends within 10 s."""
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
        "from multiqsm.execution.plugins import SturdyMultiProcPlugin\n"
        "if __name__ == '__main__':\n"
        "    pool = SturdyMultiProcPlugin({'n_procs': 1, 'memory_gb': 1}).new_pool()\n"
        "    print(pool.submit(os.getpid).result(), flush=True)\n"
        "    time.sleep(60)\n"
    )
    script = tmp_path / "parent.py"
    script.write_text(code)
    with subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True) as parent:
        worker = int(parent.stdout.readline())
        parent.kill()
    assert ends(worker)


def test_receipt_knows_its_inputs_and_its_files(tmp_path):
    source, made = tmp_path / "in.nii", tmp_path / "out" / "sub-01" / "map.nii.gz"
    source.write_bytes(b"1")
    made.parent.mkdir(parents=True)
    made.write_bytes(b"22")
    made.with_name("map.json").write_text("{}")

    def finished():
        return is_finished(tmp_path / "out", "scans", "sub-01", fingerprint({"file": source}))

    assert not finished()
    record = write_completion_record(
        tmp_path / "out", "scans", "sub-01", fingerprint({"file": source}), [made], made_by="0.1.0"
    )
    assert set(json.loads(record.read_text())["Files"]) == {"sub-01/map.json", "sub-01/map.nii.gz"}
    assert finished()
    os.utime(source, ns=(0, 0))
    assert not finished()
    write_completion_record(
        tmp_path / "out", "scans", "sub-01", fingerprint({"file": source}), [made], made_by="0.1.0"
    )
    assert finished()
    made.write_bytes(b"2")
    assert not finished()
    record.write_text('{"Fingerprint": ')
    assert not finished()


def copy_of_package(tmp_path):
    """The package's own files, to be edited."""
    root = tmp_path / "multiqsm"
    for path in [file for pattern in ("*.py", "*.json", "*.html") for file in ROOT.rglob(pattern)]:
        place = path.relative_to(ROOT)
        if place.parts[0] not in ("tests", "benchmarks", "build") and not place.parts[0].startswith(
            "."
        ):
            (root / place).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, root / place)
    return root


@pytest.mark.parametrize(
    ("module", "is_made_by"),
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
def test_results_depend_on_the_code_that_makes_them_and_no_other(tmp_path, module, is_made_by):
    root = copy_of_package(tmp_path)
    files = {path.relative_to(root).as_posix() for path in code_of(f"multiqsm.{module}", root)}
    assert is_made_by <= files
    others = {
        "reports/templates/report.html",
        "reports/group.py",
        "cli/app.py",
        "execution/run.py",
        "bids_templates/model_tables.json",
        "bids_templates/published.json",
    } - is_made_by
    assert not others & files
    assert not {file for file in files if file.startswith(("simulation/", "cohort/"))}


def test_code_that_draws_volumes_or_computes_makes_no_report_again():
    """A report shows pictures that lie there; nor does a picture of a subject make a scan's maps
    again.
    """
    of_reports, of_scans = (
        {path.relative_to(ROOT).as_posix() for path in code_of(f"multiqsm.workflows.{name}", ROOT)}
        for name in ("reports", "scans")
    )
    assert not {file for file in of_reports if file.startswith("core/")}
    assert not {"pictures/slices.py", "pictures/overlays.py", "interfaces/figures.py"} & of_reports
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
    ) as other:
        assert other.stdout.readline() == "held\n"
        with hold_subjects(tmp_path, ["03", "04"]):
            pass
        busy = pytest.raises(DatasetError, match="another run is processing sub-02 into")
        with busy, hold_subjects(tmp_path, ["02", "03"]):
            pass
        other.kill()
    with hold_subjects(tmp_path, ["01", "02"]):  # the lock ended with its process
        pass


@pytest.mark.slow
@pytest.mark.parametrize("by_step", [False, True])
def test_two_runs_into_two_outputs_never_share_the_work_of_one_scan(chores, by_step, capfd):
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
    # until somebody waits for the lock
    command = [
        sys.executable,
        "-c",
        code,
        stage.work_dir,
        ended,
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "held\n"
        assert run_chores(chores, ["work"], by_step=by_step) == ([], [])
    assert (
        f"waiting: another run works on chores scan_0 in {stage.work_dir}" in capfd.readouterr().err
    )
    (made,) = stage.output_dir.glob("*.txt")
    assert made.stat().st_mtime_ns > int(ended.read_text())


def test_step_that_the_disk_has_no_room_for_is_refused(chores, monkeypatch):
    monkeypatch.setattr(Chores, "work_gigabytes", lambda self, item: 1e9)
    with pytest.raises(ValueError, match="GB left, and one of the chores needs up to 1000000000"):
        run_chores(chores, ["work"])


def test_batch_scripts_need_plain_paths():
    check_cluster_paths("/data/work-1/a_b")
    with pytest.raises(ValueError, match="spaces"):
        check_cluster_paths("/data/my work")


@pytest.mark.slow
def test_a_run_that_is_asked_to_end_ends_soon_and_says_how_to_go_on(make_dataset, ball_head):
    root = make_dataset(subjects=("01", "02", "03"), **ball_head)
    command = [
        sys.executable,
        "-m",
        "multiqsm",
        str(root),
        str(root.parent / "out"),
        "participant",
        "--n-procs",
        "2",
    ]
    with subprocess.Popen(command, cwd=root.parent, stderr=subprocess.PIPE, text=True) as process:
        assert "1/3 scans" in process.stderr.readline()
        process.terminate()
        _, told = process.communicate(timeout=30)
        assert process.returncode == 130
    assert "interrupted; the same command continues from here" in told
    assert "Traceback" not in told
