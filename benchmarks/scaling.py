"""Measure how cost grows with the size of a study, from many tiny scans that are processed.

    python benchmarks/scaling.py {run,plan,group,overhead} --work DIR [--scans N ...] [--n-procs N]
    python benchmarks/scaling.py extrapolate [--scans N ...]

The first four start from one scan of the embedded demo at 5×5×5 mm, which is simulated once into
DIR and linked under many names.

run:
    Process N scans; sample memory and open files of the main process and of its workers every
    second.
plan:
    Time `--dry-run` over N scans, and measure its peak memory.
group:
    Time the group level over the tables of N scans: those of the largest `run`, repeated under new
    names.
overhead:
    Compare the time of the participant level of the demo with that of its steps and of their
    algorithms.

extrapolate:
    Calculate the cost of studies of N scans from that of a scan of the 2015 study, which is stated
    in docs/scaling.md and in the constants of this script.

Prints Markdown tables.
"""

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from multiqsm.cli.simulate import main as simulate
from multiqsm.dataset.simulated.layout import MANUAL

SITES = ("A", "B", "C")
SCANS_PER_SUBJECT = 5  # of the 2015 study's at a site
MULTIQSM = [sys.executable, "-m", "multiqsm"]
# Steps that only read, write and draw: everything else is an algorithm.
HANDLING = ("save_", "plot_", "report")

# Cost of a scan of the 2015 study (256×256×64, six echoes, three maps with standard errors),
# measured at commit 50bca35; CPU time includes its part of registration and reports.
CPU_SECONDS = 120
MEMORY_GB = 1.1  # of its largest step
WORK_GB = 0.65
WORK_FILES = 245
CLEAN_WORK_GB = 0.9  # of a running job with --clean-workdir, at most
OUTPUT_GB = 0.085
OUTPUT_FILES = 48
JOBS_PER_SUBJECT = 2  # besides those of the scans: registration with measurement, and the report


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = {"run": run, "plan": plan, "group": group, "overhead": overhead}
    commands["extrapolate"] = extrapolate
    parser.add_argument("command", choices=commands)
    parser.add_argument("--work", type=Path, help="folder for datasets and results")
    parser.add_argument("--scans", type=int, nargs="+", default=[135], help="sizes of the study")
    parser.add_argument("--n-procs", type=int, default=2)
    options = parser.parse_args()
    if options.command != "extrapolate":
        if options.work is None:
            parser.error("--work DIR is needed")
        options.work.mkdir(parents=True, exist_ok=True)
    commands[options.command](options)


def study(work, n):
    """A dataset of n scans, linked from one."""
    root = work / f"raw-{n}"
    one = work / "one"
    if root.exists():
        return root
    if not one.exists():
        arguments = [
            "--design",
            "demo",
            "--subjects",
            "1",
            "--runs",
            "1",
            "--sites",
            "A",
            "--voxel-size",
            *3 * "5",
        ]
        simulate([str(one), *arguments, "-w", str(work / "simulation")])
    scan = one / "sub-01"
    regions = one / MANUAL / "sub-01"
    rows = ["participant_id\tage\tsex"]
    for place in range(n):
        subject, session, number = name(place)
        link(scan, root, subject, session, number)
        if number == 1 and session == SITES[0]:
            link(regions, root / MANUAL, subject, session, number)
            rows.append(f"sub-{subject}\t{20 + int(subject) % 40}\t{'FM'[int(subject) % 2]}")
    (root / "participants.tsv").write_text("\n".join(rows) + "\n")
    shutil.copy(one / "dataset_description.json", root)
    return root


def link(folder, root, subject, session, number):
    """Link the files of the one scan under the names of another."""
    for source in (folder / "ses-A").rglob("*"):
        if source.is_file():
            new = source.name.replace(
                "sub-01_ses-A_run-1", f"sub-{subject}_ses-{session}_run-{number}"
            )
            target = root / f"sub-{subject}" / f"ses-{session}" / source.parent.name / new
            target.parent.mkdir(parents=True, exist_ok=True)
            os.link(source, target)


def name(number):
    """Labels of subject, session and run of a scan, from its number: 15 scans a subject at three
    sites.
    """
    subject, remainder = divmod(number, len(SITES) * SCANS_PER_SUBJECT)
    session, run_number = divmod(remainder, SCANS_PER_SUBJECT)
    return f"{subject + 1:05}", SITES[session], run_number + 1


def run(options):
    """Print how memory and open files go while many scans are processed."""
    print(
        "| scans | min | main process, MB: first third / last | largest worker, MB: first third / "
        "last | open files |"
    )
    print("|---|---|---|---|---|")
    for n in options.scans:
        root = study(options.work, n)
        out = options.work / f"out-{n}"
        shutil.rmtree(out, ignore_errors=True)
        command = [
            *MULTIQSM,
            str(root),
            str(out),
            "participant",
            "-w",
            str(options.work / f"work-{n}"),
        ]
        samples = []
        started = time.monotonic()
        with subprocess.Popen(
            [*command, "--n-procs", str(options.n_procs), "--clean-workdir"]
        ) as process:
            while process.poll() is None:
                samples.append(sample(process.pid))
                time.sleep(1)
        minutes = (time.monotonic() - started) / 60
        own, workers, files = np.array(list(filter(None, samples))).T
        thirds = len(own) // 3
        first = slice(None, thirds)
        last = slice(-thirds, None)
        cells = [f"{np.median(of[first]):.0f} / {np.median(of[last]):.0f}" for of in (own, workers)]
        cells.append(f"{np.median(files[first]):.0f} / {np.median(files[last]):.0f}")
        print(f"| {n} | {minutes:.1f} | {' | '.join(cells)} |", flush=True)


def sample(pid):
    """Memory in MB of a process and of its largest child, and open files of all; nothing if it has
    ended.
    """
    try:
        children = [
            int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        ]
        files = sum(len(os.listdir(f"/proc/{each}/fd")) for each in (pid, *children))
        return megabytes(pid), max(map(megabytes, children), default=0), files
    except OSError:
        return None


def megabytes(pid):
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def plan(options):
    """Print the time and memory of a dry run."""
    print("| scans | s | ms a scan | peak memory, MB |\n|---|---|---|---|")
    for n in options.scans:
        seconds, peak = timed(
            [
                *MULTIQSM,
                str(study(options.work, n)),
                str(options.work / "dry"),
                "participant",
                "--dry-run",
            ]
        )
        print(f"| {n} | {seconds:.1f} | {1000 * seconds / n:.0f} | {peak:.0f} |", flush=True)


def group(options):
    """Print the time and memory of the group level."""
    source = max(options.work.glob("out-*"), key=lambda path: int(path.name.split("-")[1]))
    tables = sorted(source.glob("sub-*/**/*_desc-rois_chi.tsv"))
    print(
        f"tables of {source.name}: {len(tables)}\n\n| scans | s | ms a scan | peak memory, MB "
        "|\n|---|---|---|---|"
    )
    for n in options.scans:
        root = study(options.work, n)
        out = options.work / f"tables-{n}"
        repeat_tables(tables, source, out, n)
        command = [
            *MULTIQSM,
            str(root),
            str(out),
            "group",
            "-w",
            str(options.work / "work-group"),
            "--plugin",
            "Linear",
        ]
        seconds, peak = timed(command)
        print(f"| {n} | {seconds:.1f} | {1000 * seconds / n:.0f} | {peak:.0f} |", flush=True)


def repeat_tables(tables, source, out, n):
    """Write n tables from those that there are, each under its own subject, session and run."""
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    shutil.copy(source / "dataset_description.json", out)
    random = np.random.default_rng(0)
    for place in range(n):
        subject, session, number = name(place)
        table = tables[place % len(tables)]
        lines = [line.split("\t") for line in table.read_text().splitlines()]
        column = lines[0].index("mean")
        for line in lines[1:]:
            line[:5] = [subject, session, str(number), session, str(number)]
            if line[column] != "n/a":  # a region that a coarse voxel swallowed
                line[column] = str(float(line[column]) + random.normal(0, 0.003))
        path = out / f"sub-{subject}" / f"ses-{session}" / "anat"
        path.mkdir(parents=True, exist_ok=True)
        stem = f"sub-{subject}_ses-{session}_run-{number}_desc-rois_chi.tsv"
        (path / stem).write_text("\n".join("\t".join(line) for line in lines) + "\n")


def timed(command):
    """Wall-clock seconds and peak memory in MB of a command."""
    started = time.monotonic()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")
    return time.monotonic() - started, used.ru_maxrss / 1e3


def overhead(options):
    """Print what of the demo's participant level is neither an algorithm's time nor an idle
    processor's.
    """
    raw, out, work = (options.work / part for part in ("demo", "demo-out", "demo-work"))
    if not raw.exists():
        simulate([str(raw), "--design", "demo", "-w", str(work)])
    for folder in (out, work):
        shutil.rmtree(folder, ignore_errors=True)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds, _ = timed(
        [
            *MULTIQSM,
            str(raw),
            str(out),
            "participant",
            "-w",
            str(work),
            "--n-procs",
            str(options.n_procs),
        ]
    )
    steps = {}
    for outcome in work.glob("runs/*/*/outcomes/*.json"):
        steps |= json.loads(outcome.read_text())["Seconds"]
    handling = sum(
        step_seconds
        for step, step_seconds in steps.items()
        if step.split(".")[-1].startswith(HANDLING)
    )
    total = sum(steps.values())
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    available = seconds * options.n_procs
    print("| | CPU time, s | fraction |\n|---|---|---|")
    rows = {
        "algorithms": total - handling,
        "reading, writing and drawing results": handling,
        "Nipype, start of processes, indexing, checks and waiting": available - total,
    }
    for part, part_seconds in rows.items():
        print(f"| {part} | {part_seconds:.0f} | {part_seconds / available:.0%} |")
    print(
        f"\n{seconds:.0f} s with {options.n_procs} processes; {cpu:.0f} s of CPU time by main "
        "process and its workers"
    )


def extrapolate(options):
    """Print the cost of studies, in proportion to the number of scans."""
    print(
        "| scans | CPU-hours | memory of a job | jobs | work folder | the same with "
        "`--clean-workdir` | output |"
    )
    print("|---|---|---|---|---|---|---|")
    for n in options.scans:
        n_subjects = n // (len(SITES) * SCANS_PER_SUBJECT)
        cells = [
            f"{n:,}",
            rounded(n * CPU_SECONDS / 3600),
            f"{MEMORY_GB} GB",
            rounded(n + JOBS_PER_SUBJECT * n_subjects, digits=3),
            f"{rounded(n * WORK_GB)} GB, {rounded(n * WORK_FILES)} files",
            f"{CLEAN_WORK_GB} GB per running job",
            f"{rounded(n * OUTPUT_GB)} GB, {rounded(n * OUTPUT_FILES)} files",
        ]
        print(f"| {' | '.join(cells)} |")


def rounded(number, digits=2):
    """Return a number with some significant digits, and commas between thousands."""
    significant = float(f"{number:.{digits}g}")
    return f"{significant:,.0f}" if significant >= 10 else f"{significant:g}"


if __name__ == "__main__":
    main()
