"""Test fault tolerance: kill runs, make disks fail, damage input files, mislead with intact ones.

    python benchmarks/faults.py {kills,disk,inputs,studies} [--n N] [--seed S] [--kinds TEXT]
                                [--keep DIR]

kills:
    N runs with two processes are killed (SIGKILL) at random moments; the same command follows.
disk:
    The work or output folder is full, read-only or another user's, in about N cases (Linux with
    user namespaces).
inputs:
    N datasets with one intact and one damaged subject.
studies:
    Intact files with misleading content: scans that are not repeats, regions that a filter
    excludes, a poor phantom.

Prints a Markdown table, and below it a line for each failure of the software. The exit code is 1 if
there is one.
"""

import argparse
import gzip
import io
import json
import multiprocessing
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from pathlib import Path

import mutations
import nibabel as nib
import numpy as np
import pandas as pd
from PIL import Image

from multiqsm.cli.app import main as multiqsm
from multiqsm.cohort.roi_tables import read_roi_table
from multiqsm.dataset.files import read_json
from multiqsm.dataset.outputs import derivative_path, write_dataset_description
from multiqsm.dataset.tables import read_tsv, write_tsv
from multiqsm.execution.completion import COMPLETION_RECORDS

OPTIONS = (
    "--inversion",
    "deterministic",
    "--background",
    "pdf",
    "--se-draws",
    "0",
    "--reference",
    "brain",
)
# mm; so much brain tells the sign of its phase
SHAPE = (30, 30, 24)
VOXEL_SIZE = (4.2, 4.2, 4.8)  # mm
RADIUS = 54  # mm
ECHO_TIMES = (0.006, 0.012, 0.018)  # s
IMAGING_FREQUENCY = 123.2  # MHz
# in the environment of a run's processes, so that they can be told from others
MARK = "MULTIQSM_FAULT_CAMPAIGN"
OUTLIVE = 10  # s that a worker may outlive its run
LIMIT = 600  # s after which a run of two tiny scans hangs
TOLERANCE = 0.01  # of a map's spread
TRACEBACK = "Traceback (most recent call last)"
COMPARED = (".gz", ".tsv", ".txt", ".png")
PARTIAL = re.compile(r"\..*[0-9a-f]{32}")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("campaign", choices=("kills", "disk", "inputs", "studies"))
    parser.add_argument(
        "--n", type=int, help="how many: 50 kills, all cases of the disk, 320 inputs if not given"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--kinds", default="", help="only damaged inputs whose kind has this in its name"
    )
    parser.add_argument(
        "--keep", type=Path, help="folder for datasets, results and logs, which then stay"
    )
    options = parser.parse_args()
    if options.campaign == "disk":
        enter_namespace()
    folder = options.keep or Path(tempfile.mkdtemp(prefix="faults-"))
    folder.mkdir(parents=True, exist_ok=True)
    chance = random.Random(options.seed)
    try:
        if options.campaign == "kills":
            faults = kill_runs(folder, options.n or 50, chance)
        elif options.campaign == "disk":
            faults = take_disk_away(folder, options.n)
        elif options.campaign == "studies":
            faults = mislead(folder, options.kinds)
        else:
            faults = damage_inputs(
                folder, mutations.draw(options.n or 320, options.kinds), options.seed
            )
    finally:
        if not options.keep:
            shutil.rmtree(folder, ignore_errors=True)
    print(f"\n{len(faults)} faults", *faults, sep="\n")
    return 1 if faults else 0


# --- datasets -----------------------------------------------------------------------------------


def write_dataset(root, scans_of):
    """Write heads that the pipeline can process in a second; `scans_of` is the number of scans by
    participant.
    """
    root.mkdir(parents=True)
    write_json(root / "dataset_description.json", {"Name": "Faults", "BIDSVersion": "1.10.0"})
    rows = [f"sub-{subject}\tsite0\t{30 + place}" for place, subject in enumerate(scans_of)]
    (root / "participants.tsv").write_text("\n".join(["participant_id\tsite\tage", *rows]) + "\n")
    raters = root / "derivatives" / "rater"
    for place, (subject, n_scans) in enumerate(scans_of.items()):
        for run in range(1, n_scans + 1):
            folder = root / f"sub-{subject}" / "anat"
            write_scan(
                folder, f"sub-{subject}_run-{run}", iron=iron_of(place), seed=10 * place + run
            )
        drawn = raters / f"sub-{subject}" / "anat" / f"sub-{subject}_run-1_dseg.nii.gz"
        drawn.parent.mkdir(parents=True)
        save_image(drawn, (distance(iron_of(place)) < 9).astype(np.uint8))
        drawn.with_name(drawn.name.replace(".nii.gz", ".tsv")).write_text("index\tname\n1\tiron\n")
    write_json(
        raters / "dataset_description.json",
        {"Name": "Rater", "BIDSVersion": "1.10.0", "DatasetType": "derivative"},
    )
    return root


def iron_of(place):
    """Where a participant has iron (mm): on no plane of symmetry, as nothing in a real head is."""
    return 17 - 6 * place, 8, 5


def write_scan(folder, stem, *, iron, seed):
    """A ball of brain with a ball of iron in it and air below, received by a coil at one side."""
    folder.mkdir(parents=True, exist_ok=True)
    field = ball_field(0.3, 12, iron) + ball_field(9, 12, (0, 0, -77))
    brain = 100 * (distance((0, 0, 0)) < RADIUS) * 124 / distance((93, 77, 62))
    noise = np.random.default_rng(seed)
    for echo, time_ in enumerate(ECHO_TIMES, start=1):
        signal_ = brain * np.exp(
            -20 * time_ + 1j * (0.5 + 2 * np.pi * IMAGING_FREQUENCY * field * time_)
        )
        signal_ = signal_ + noise.normal(0, 1, SHAPE) + 1j * noise.normal(0, 1, SHAPE)
        for part, values in (("mag", np.abs(signal_)), ("phase", np.angle(signal_))):
            path = folder / f"{stem}_echo-{echo}_part-{part}_MEGRE.nii.gz"
            save_image(path, values.astype(np.float32))
            sidecar = {
                "Manufacturer": "Siemens",
                "MagneticFieldStrength": 3,
                "ImagingFrequency": IMAGING_FREQUENCY,
            }
            sidecar |= {"EchoTime": time_, "Units": "rad" if part == "phase" else "arbitrary"}
            write_json(path.with_name(path.name.replace(".nii.gz", ".json")), sidecar)


def distance(center):
    """Of each voxel from a point, mm."""
    axes = [
        (np.arange(n) - (n - 1) / 2) * size - c
        for n, size, c in zip(SHAPE, VOXEL_SIZE, center, strict=True)
    ]
    return np.sqrt(sum(axis**2 for axis in np.meshgrid(*axes, indexing="ij")))


def ball_field(chi, radius, center):
    """Field of a ball (ppm): (χ/3)(a/r)³(3cos²θ - 1) outside, 0 inside."""
    r = np.maximum(distance(center), 1e-6)
    z = ((np.arange(SHAPE[2]) - (SHAPE[2] - 1) / 2) * VOXEL_SIZE[2] - center[2])[None, None, :]
    return np.where(r > radius, chi / 3 * (radius / r) ** 3 * (3 * (z / r) ** 2 - 1), 0)


def save_image(path, values):
    affine = np.diag([*VOXEL_SIZE, 1.0])
    affine[:3, 3] = -(np.array(SHAPE) - 1) / 2 * VOXEL_SIZE
    image = nib.Nifti1Image(values, affine)
    for set_form in (image.set_qform, image.set_sform):
        set_form(affine, "scanner")
    nib.save(image, path)


def write_json(path, content):
    path.write_text(json.dumps(content))


# --- runs and what they leave -------------------------------------------------------------------


def command(raw, out, work, *options):
    return [str(raw), str(out), "participant", "-w", str(work), *OPTIONS, *options]


def run_here(arguments, log, limit=LIMIT):
    """Run the command in a child of this process, which has imported everything; exit code, or None
    if it hung.
    """
    child = multiprocessing.get_context("fork").Process(target=_child, args=(arguments, log))
    child.start()
    child.join(limit)
    if child.is_alive():
        child.kill()
        child.join()
        return None
    return child.exitcode


def run_or_raise(arguments, log):
    if run_here(arguments, log) != 0:
        raise RuntimeError(log.read_text())


def _child(arguments, log):
    with open(log, "wb") as stream:
        os.dup2(stream.fileno(), 1)
        os.dup2(stream.fileno(), 2)
    sys.stdout, sys.stderr = (
        io.TextIOWrapper(os.fdopen(n, "wb", 0), write_through=True) for n in (1, 2)
    )
    sys.exit(multiqsm(arguments))


def import_everything():
    from multiqsm.cli import stages  # noqa: F401
    from multiqsm.reports import html, subject  # noqa: F401


def broken_file(path):
    """Why a file is not whole; None if it can be read to its last byte."""
    try:
        content = path.read_bytes()
        if path.suffix == ".gz":
            nib.Nifti1Image.from_bytes(gzip.decompress(content)).get_fdata()
        elif path.suffix == ".json":
            json.loads(content)
        elif path.suffix == ".png":
            Image.open(io.BytesIO(content)).load()
        elif path.suffix in (".tsv", ".txt", ".md") and not content.endswith(b"\n"):
            return "does not end with a line"
        elif path.suffix == ".html" and not content.rstrip().endswith(b"</html>"):
            return "ends too early"
    except Exception as error:  # whatever a reader says of half a file
        return f"{type(error).__name__}: {error}"
    return None


def files_below(folder):
    return [path for path in sorted(folder.rglob("*")) if path.is_file()] if folder.exists() else []


def damage_in(out):
    """Incomplete files under their final names, and completion records of missing files."""
    damage = []
    for path in files_below(out):
        reason = None if path.name.startswith(".") else broken_file(path)
        if reason:
            damage.append(f"{path.relative_to(out)} is half-written: {reason}")
    for record in files_below(out / COMPLETION_RECORDS):
        for name, size in (
            {} if record.name.startswith(".") else read_json(record).get("Files", {}).items()
        ):
            path = out / name
            if not path.is_file() or path.stat().st_size != size:
                damage.append(
                    f"{record.relative_to(out)} is the completion record of a missing file, {name}"
                )
    return damage


def times_of_finished(out):
    """When each file that has a completion record was written."""
    records = [
        path for path in files_below(out / COMPLETION_RECORDS) if not path.name.startswith(".")
    ]
    names = {name for record in records for name in read_json(record).get("Files", {})}
    return {name: (out / name).stat().st_mtime_ns for name in names if (out / name).is_file()}


def differences(out, undisturbed):
    """Images, tables, transforms and pictures that differ from those of a run that nothing has
    disturbed.
    """
    names = [
        {
            path.relative_to(root)
            for path in files_below(root)
            if path.suffix in COMPARED and path.name[0] != "."
        }
        for root in (out, undisturbed)
    ]
    missing = [f"{name} is in one of the two only" for name in sorted(names[0] ^ names[1])]
    both = sorted(names[0] & names[1])
    return missing + [
        f"{name} differs"
        for name in both
        if (out / name).read_bytes() != (undisturbed / name).read_bytes()
    ]


def partial_files(out):
    return [path for path in files_below(out) if PARTIAL.match(path.name)]


def remove(*folders):
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


def print_table(*rows):
    for place, row in enumerate(rows):
        print(f"| {' | '.join(map(str, row))} |", flush=True)
        if place == 0:
            print("|" + "---|" * len(row))


# --- kills --------------------------------------------------------------------------------------


def kill_runs(folder, n, chance):
    """Kill run after run; when one completes first, compare and begin anew."""
    raw = write_dataset(folder / "raw", {"01": 2, "02": 1})
    undisturbed, out, work, log = (
        folder / name for name in ("undisturbed", "out", "work", "log.txt")
    )
    started = time.monotonic()
    run = start(command(raw, undisturbed, folder / "work0", "--n-procs", "2"), log)
    if run.wait() != 0:
        raise RuntimeError(log.read_text())
    length = time.monotonic() - started
    faults = []
    counts = Counter()
    finished = {}
    while counts["killed"] < n or counts["open"]:
        run = start(command(raw, out, work, "--n-procs", "2"), log)
        seconds = chance.uniform(0, length)
        whole_family = chance.random() < 0.5
        try:
            code = run.wait(seconds if counts["killed"] < n else LIMIT)
        except subprocess.TimeoutExpired:
            if counts["killed"] >= n:
                faults.append("the last run hung")
                kill_family()
                break
            code = None
            kill_family() if whole_family else run.kill()
            run.wait()
            counts["killed"] += 1
            counts["main and workers" if whole_family else "main process"] += 1
        counts["open"] = 1
        problems = []
        n_workers = outliving()
        if n_workers:
            problems.append(f"{n_workers} worker(s) outlived a killed run by {OUTLIVE} s")
        problems += damage_in(out)
        finished_now = times_of_finished(out)
        problems += [
            f"{name} was finished and made again"
            for name, written_at in finished.items()
            if finished_now.get(name, written_at) != written_at
        ]
        problems += [
            f"{name} was finished and is lost" for name in finished if name not in finished_now
        ]
        counts["finished"] += len(finished)
        finished = finished_now
        if code is not None:
            problems += (
                [f"exit code {code}: {last_line(log)}"] if code else differences(out, undisturbed)
            )
            problems += [f"{path.relative_to(out)} was left behind" for path in partial_files(out)]
            counts["complete"] += 1
            counts["open"] = 0
            remove(out, work)
            finished = {}
        if TRACEBACK in log.read_text(errors="replace"):
            problems.append(f"traceback: {last_line(log)}")
        faults += [f"after kill {counts['killed']}: {line}" for line in problems]
    print_table(
        (
            "kills",
            "of the main process alone",
            "of main and workers",
            "complete results compared",
            "faults",
        ),
        (
            counts["killed"],
            counts["main process"],
            counts["main and workers"],
            counts["complete"],
            len(faults),
        ),
    )
    return faults


def start(arguments, log):
    environment = {**os.environ, MARK: str(os.getpid())}
    with log.open("wb") as stream:
        return subprocess.Popen(
            [sys.executable, "-m", "multiqsm", *arguments],
            env=environment,
            stdout=stream,
            stderr=stream,
        )


def family():
    """Processes that a run of this campaign has started, and that live."""
    mark = f"{MARK}={os.getpid()}".encode()
    process_ids = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            state = folder.joinpath("stat").read_text().rsplit(")", 1)[1].split()[0]
            if state != "Z" and mark in folder.joinpath("environ").read_bytes().split(b"\0"):
                process_ids.append(int(folder.name))
        except OSError:  # it has ended meanwhile, or is another user's
            continue
    return process_ids


def kill_family():
    for process in family():
        try:
            os.kill(process, signal.SIGKILL)
        except ProcessLookupError:
            continue


def outliving():
    """How many processes of a run that has ended live on."""
    until = time.monotonic() + OUTLIVE
    while family() and time.monotonic() < until:
        time.sleep(0.1)
    return len(family())


def last_line(log):
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1] if lines else "(silent)"


# --- disk ---------------------------------------------------------------------------------------


def enter_namespace():
    """Begin again in a namespace of our own, where file systems can be mounted without being
    root.
    """
    if MARK in os.environ:
        return
    foreign = Path(tempfile.mkdtemp(prefix="faults-foreign-"))
    if os.getuid() == 0:
        os.chown(foreign, 65534, 65534)
    foreign.chmod(0o755 if os.getuid() == 0 else 0o555)
    inside = ["unshare", "--user", "--map-root-user", "--mount", sys.executable, *sys.argv]
    ended = subprocess.run(inside, env={**os.environ, MARK: str(foreign)}, check=False)
    foreign.rmdir()
    sys.exit(ended.returncode)


def take_disk_away(folder, n):
    """Try every way in which a folder may not be written to, when one of two subjects is
    finished.
    """
    import_everything()
    raw = write_dataset(folder / "raw", {"01": 1, "02": 1})
    first, undisturbed, case = (folder / name for name in ("first", "undisturbed", "case"))
    # The paths are always the same, since completion records depend on where inputs are.
    work = case / "work"
    out = case / "output"
    case.mkdir()
    needs = {}
    for subjects in (("01",), ("01", "02")):
        run_or_raise(
            command(raw, out, work, "--plugin", "Linear", *only(*subjects)), folder / "log.txt"
        )
        restore(out, first if subjects == ("01",) else undisturbed)
        for role, path in (("work", work), ("output", out)):
            needs[role] = {
                key: n - needs.get(role, {}).get(key, 0) for key, n in usage(path).items()
            }
    remove(case)
    faults = []
    counts = defaultdict(Counter)
    cases = list(disk_cases())
    for role, failure, fraction, plugin in cases[:: max(1, len(cases) // (n or len(cases)))]:
        kind = f"{role} folder {failure}"
        room_left = {key: round(fraction * n) for key, n in needs[role].items()}
        disk_case = DiskCase(case, role, [str(raw), *plugin])
        problems, outcome = disk_case.run(failure, room_left, first, undisturbed)
        counts[kind].update(["n", outcome, *(["faults"] if problems else [])])
        description = f"{kind}, {fraction:.0%} of its need left, {plugin[1]}"
        faults += [f"{description}: {line}" for line in problems]
        print(f"{description}: {outcome} {problems}", file=sys.stderr, flush=True)
    columns = ("n", "refused before work", "stopped with a message", "had room", "faults")
    print_table(
        ("disk", *columns),
        *((kind, *(row[column] for column in columns)) for kind, row in counts.items()),
    )
    return faults


def disk_cases():
    """All cases: role of the folder, its failure, the fraction that is left of what it needs, and
    the plugin.
    """
    serial = ("--plugin", "Linear")
    parallel = ("--n-procs", "2", "--jobs", "scan")
    for role in ("work", "output"):
        for fraction in (0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9):
            yield role, "full", fraction, serial
        for fraction in (0, 0.2, 0.5, 0.8):
            yield role, "full", fraction, parallel
        for fraction in (0, 0.1, 0.5):
            yield role, "out of inodes", fraction, serial
        for failure in ("read-only", "read-only from the start", "somebody else's"):
            yield role, failure, 0, serial
        yield role, "read-only", 0, parallel


class DiskCase:
    """One folder that cannot be written to: a file system of its own."""

    def __init__(self, folder, role, options):
        self.folder = folder
        self.role = role
        self.log = folder / "log.txt"
        self.raw, *self.plugin = options
        self.places = {"work": folder / "work", "output": folder / "output"}
        self.room = self.places[role]

    def run(self, failure, room_left, first, undisturbed):
        """Process both subjects, the first of which is finished, without room and with it; return
        problems, and the outcome without room.
        """
        self.room.mkdir(parents=True)
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=1g,nr_inodes=1m", "tmpfs", self.room], check=True
        )
        try:
            if failure in ("full", "out of inodes", "read-only"):
                shutil.copytree(first, self.places["output"], dirs_exist_ok=True)
            finished = times_of_finished(self.places["output"])
            self.take_away(failure, room_left)
            problems, outcome = self.without_room()
            if failure != "somebody else's":
                problems += lost_files(finished, self.places["output"])
                self.remount("rw,size=1g,nr_inodes=1m")
                problems += self.with_room(finished, undisturbed)
            return problems, outcome
        finally:
            subprocess.run(["umount", "-l", self.room], check=True)
            remove(self.folder)

    def take_away(self, failure, room_left):
        disk = os.statvfs(self.room)
        if failure == "full":
            n_used = (disk.f_blocks - disk.f_bfree) * disk.f_frsize  # bytes
            self.remount(f"size={n_used + max(room_left['bytes'], 4096)}")
        elif failure == "out of inodes":
            self.remount(f"nr_inodes={disk.f_files - disk.f_ffree + 1 + room_left['files']}")
        elif failure == "somebody else's":
            self.places[self.role] = Path(os.environ[MARK]) / self.role
        else:
            self.remount("ro")

    def remount(self, options):
        subprocess.run(["mount", "-o", f"remount,{options}", self.room], check=True)

    def process(self):
        arguments = command(self.raw, self.places["output"], self.places["work"], *self.plugin)
        if "Linear" in self.plugin:
            return run_here(arguments, self.log)
        run = start(arguments, self.log)
        try:
            return run.wait(LIMIT)
        except subprocess.TimeoutExpired:
            kill_family()
            return None

    def without_room(self):
        code = self.process()
        output = self.log.read_text(errors="replace")
        problems = damage_in(self.places["output"])
        if code == 0:
            return problems, "had room"
        problems += lacking_in_message(code, output, self.places[self.role])
        began = any(line.startswith("[") for line in output.splitlines())
        return problems, "stopped with a message" if began else "refused before work"

    def with_room(self, finished, undisturbed):
        out = self.places["output"]
        if (code := self.process()) != 0:
            return [
                f"does not complete after room is made, exit code {code}: {last_line(self.log)}"
            ]
        leftovers = [f"{path.relative_to(out)} was left behind" for path in partial_files(out)]
        return lost_files(finished, out) + differences(out, undisturbed) + leftovers


def lacking_in_message(code, output, folder):
    """A message names the folder and what to do."""
    problems = ["hangs"] if code is None else []
    if TRACEBACK in output:
        problems.append(f"traceback: {output.strip().splitlines()[-1]}")
    elif not any(str(folder) in line and "; " in line for line in output.splitlines()):
        problems.append(f"no message names {folder}: {output.strip().splitlines()[-1:]}")
    return problems


def lost_files(finished, out):
    finished_now = times_of_finished(out)
    return [
        f"{name} was finished and is lost or made again"
        for name, written_at in finished.items()
        if finished_now.get(name) != written_at
    ]


def only(*subjects):
    return ["--participant-label", *subjects]


def usage(folder):
    paths = list(folder.rglob("*"))
    blocks = sum(-(-path.lstat().st_size // 4096) * 4096 for path in paths if path.is_file())
    return {"bytes": blocks, "files": len(paths)}


# --- inputs -------------------------------------------------------------------------------------


def damage_inputs(folder, damages, seed):
    """Damage one of two subjects, and compare the results with those of the undamaged one."""
    import_everything()
    pristine = write_dataset(folder / "pristine", {"01": 1, "02": 1})
    raw, out, work, log = (folder / name for name in ("raw", "out", "work", "log.txt"))
    restore(pristine, raw)
    before = folder / "before"
    first = folder / "first"
    for subjects, copy in ((("01",), first), (("01", "02"), before)):
        run_or_raise(command(raw, out, work, "--plugin", "Linear", *only(*subjects)), log)
        restore(out, copy)
    usual_lines = set(log.read_text().splitlines())
    kinds = defaultdict(Counter)
    faults = []
    unknowable = []
    for number, (name, mutate) in enumerate(damages):
        chance = np.random.default_rng([seed, number])
        remove(out, work)
        restore(pristine, raw)
        # the good subject's scan is made beside the bad one; else it was finished before
        starts_empty = number % 10 == 0
        if not starts_empty:
            restore(first, out)
        damaged_names = mutate(mutations.Subject(raw, "02"), chance)
        code = run_here(command(raw, out, work, "--plugin", "Linear"), log)
        output = log.read_text(errors="replace")
        outcome, problems = judge(code, output, usual_lines, out, before, damaged_names)
        problems += damage_in(out) + [
            f"lost: {line}" for line in missing_of_intact_subject(out, before, outcome, name)
        ]
        kinds[name]["n"] += 1
        kinds[name][outcome] += 1
        if outcome == "wrong output" and name in mutations.UNKNOWABLE:
            unknowable.append(name)
        elif outcome in ("wrong output", "hang", "traceback"):
            problems.append(outcome)
        if problems:
            kinds[name]["faults"] += 1
            case = f"{number} {name} ({damaged_names})"
            faults.append(f"{case}: {'; '.join(problems)}; last line: {last_line(log)}")
        shutil.copy(log, folder / f"case-{number}.txt")
        size = f" by {departure(out, before):.1%}" if outcome in ("warned", "wrong output") else ""
        print(
            f"{number} {name} ({damaged_names}): {outcome}{size} {'; '.join(problems)}",
            file=sys.stderr,
            flush=True,
        )
    columns = (
        "n",
        "refused before work",
        "dataset refused",
        "failed with message",
        "warned",
        "harmless",
    )
    columns += ("wrong output", "hang", "traceback", "faults")
    total = sum(kinds.values(), Counter())
    rows = [(name, *(counts[column] for column in columns)) for name, counts in kinds.items()]
    print_table(("kind", *columns), *rows, ("all", *(total[column] for column in columns)))
    print(
        f"\nno software could know of {len(unknowable)}: "
        f"{', '.join(sorted(set(unknowable))) or 'none'}"
    )
    return faults


def restore(source, target):
    """Copy a folder with its times, so that completion records hold."""
    remove(target)
    shutil.copytree(source, target, symlinks=True)


def judge(code, output, usual_lines, out, before, damaged_names):
    """What became of a damaged input, and what is wrong with that."""
    if code is None:
        return "hang", []
    if TRACEBACK in output or code not in (0, 1, 2):
        return "traceback", []
    new_lines = [line for line in output.splitlines() if line not in usual_lines]
    # without extensions: an image's name then stands for its sidecar's too
    stems = [name.split(".")[0] for name in damaged_names.split(", ")]
    named = [line for line in new_lines if any(stem in line for stem in stems)]
    unnamed = [] if named else [f"no line names {damaged_names}"]
    failed = [line for line in new_lines if line.startswith("failed: ") and "sub-02" in line]
    if code == 2:
        return "dataset refused", unnamed
    if code == 1:
        # What fails at work is a scan: which of its files is to blame cannot always be told.
        return ("failed with message", []) if failed else ("refused before work", unnamed)
    if departure(out, before) <= TOLERANCE:
        return "harmless", []
    warned = [line for line in new_lines if "sub-02" in line and not line.startswith("[")]
    return ("warned" if warned else "wrong output"), []


def departure(out, before):
    """How far the damaged subject's results are from those of the undamaged, in spreads of the true
    map.
    """
    name = "sub-02/anat/sub-02_run-1_desc-deterministic_Chimap.nii.gz"
    chi, true_chi = (nib.load(root / name).get_fdata() for root in (out, before))
    regions = regional_means(out)
    true_regions = regional_means(before)
    if (
        chi.shape != true_chi.shape
        or not np.isfinite(chi).all()
        or set(regions) != set(true_regions)
    ):
        return np.inf
    errors = [
        np.sqrt(np.mean((chi - true_chi) ** 2)),
        *(abs(regions[roi] - mean) for roi, mean in true_regions.items()),
    ]
    return np.max(errors) / true_chi[true_chi != 0].std()


def regional_means(out):
    tables = [read_roi_table(path) for path in sorted((out / "sub-02").rglob("*_chi.tsv"))]
    return {
        (row.site, row.run, row.roi): row.mean for table in tables for row in table.itertuples()
    }


def missing_of_intact_subject(out, before, outcome, name):
    """What is missing of the good subject, unless the dataset as a whole was refused; a table of
    sites is both's.
    """
    if outcome == "dataset refused":
        return []
    kinds = [".gz", ".png"] if name.startswith("participants") else COMPARED
    names = [
        path.relative_to(before) for path in files_below(before / "sub-01") if path.suffix in kinds
    ]
    return [
        str(n)
        for n in names
        if not (out / n).is_file() or (out / n).read_bytes() != (before / n).read_bytes()
    ]


# --- studies ------------------------------------------------------------------------------------


def mislead(folder, having=""):
    """Run each study that misleads; what it must say, and may not count."""
    import_everything()
    faults = []
    rows = []
    for name, prepare in STUDIES.items():
        if having not in name:
            continue
        root = folder / re.sub(r"\W+", "-", name)
        log = folder / f"{re.sub(r'[^a-z]+', '-', name)}.txt"
        for arguments, expected_code, words in prepare(root):
            exit_code = run_here([*arguments, "-w", str(root / "work"), "--plugin", "Linear"], log)
            output = log.read_text(errors="replace")
            lines = [line for line in output.splitlines() if all(word in line for word in words)]
            problems = []
            if exit_code != expected_code:
                problems.append(f"exit code {exit_code}, not {expected_code}")
            problems += [] if lines else [f"no line has {', '.join(words)}"]
            problems += [f"traceback: {last_line(log)}"] if TRACEBACK in output else []
            shown = [
                word
                for word in arguments[2:]
                if word not in OPTIONS and not Path(word).is_absolute()
            ]
            rows.append((name, " ".join(shown), exit_code, len(lines), len(problems)))
            faults += [f"{name}: {problem}" for problem in problems]
        faults += [f"{name}: {problem}" for problem in wrong_repeats(root / "out")]
    print_table(("study", "command", "exit code", "lines that tell", "faults"), *rows)
    return faults


def wrong_repeats(out):
    """Pairs of scans that count as a test and its repetition, of which these studies have none."""
    path = out / "group" / "imprecision.tsv"
    if not path.is_file():
        return []
    return [
        f"sub-{row.subject} has repeats in {row.roi}"
        for row in read_tsv(path).itertuples()
        if row.n_within
    ]


def write_tables(place, scans):
    """Write a raw dataset without images, and tables of regional values: of each scan labels,
    columns and values.
    """
    raw = place / "raw"
    out = place / "out"
    raw.mkdir(parents=True)
    write_json(raw / "dataset_description.json", {"Name": "Study", "BIDSVersion": "1.10.0"})
    (raw / "participants.tsv").write_text("participant_id\tage\n01\t30\n02\t40\n03\t50\n")
    write_dataset_description(out, raw)
    for entities, columns, values in scans:
        table = pd.DataFrame({"roi": list(values), "mean": list(values.values())})
        labels = {
            name: entities.get(name, np.nan)
            for name in ("subject", "session", "acquisition", "run")
        }
        common = {
            "site": "A",
            "scan": 1,
            "method": "medi",
            "unit": "ppm",
            "reference": "csf",
            "voxel_size": "1, 1, 2",
        }
        table = table.assign(**labels, **{**common, **columns})
        write_tsv(
            derivative_path(out, entities, suffix="chi", desc="rois", extension=".tsv"), table
        )
    return [str(raw), str(out), "group"]


def two_protocols(place):
    """Three people with one scan of each of two acquisitions."""
    kinds = {"fine": "1, 1, 1", "coarse": "1, 1, 3"}
    scans = [
        (
            {"subject": f"0{n}", "acquisition": name},
            {"echo_times": "6, 14", "voxel_size": size},
            {"putamen": 0.04 + n / 1000},
        )
        for n in (1, 2, 3)
        for name, size in kinds.items()
    ]
    yield (
        write_tables(place, scans),
        0,
        ("warning: 3 scans (acq-fine", "site A", "sub-01, sub-02, sub-03"),
    )


def echoes_in_tables(place):
    """Three people whose three echoes were named as runs."""
    scans = [
        (
            {"subject": f"0{n}", "run": str(run)},
            {"echo_times": time, "scan": run},
            {"putamen": 0.04 + n / 1000},
        )
        for n in (1, 2, 3)
        for run, time in enumerate(("6", "14", "22"), start=1)
    ]
    yield write_tables(place, scans), 0, ("warning: 3 scans (TE 22 ms", "site A", "TE 6 ms")


def poor_calibration(place):
    """A phantom whose tubes' labels were exchanged, and people at its site."""
    # measured and expected, ppm
    tubes = {
        "a": (0.2, 0.6),
        "b": (0.4, 0.2),
        "c": (0.6, 0.8),
        "d": (0.8, 0.4),
    }
    people = [
        ({"subject": f"0{n}"}, {"echo_times": "6, 14"}, {"putamen": 0.04 + n / 1000})
        for n in (1, 2, 3)
    ]
    expected = {
        "echo_times": "6, 14",
        "reference": "phantom",
        "expected": [true for _, true in tubes.values()],
    }
    phantom = (
        {"subject": "ph"},
        expected,
        {name: measured for name, (measured, _) in tubes.items()},
    )
    arguments = write_tables(place, [*people, phantom])
    words = ("calibration of site A, medi", "R² 0.0000", "susceptibility_ppm")
    yield arguments, 0, ("warning: ", *words)
    yield [*arguments, "--calibrate"], 2, ("failed: ", *words)


def filter_that_loses_regions(place):
    """Two scans of a person, the regions drawn on the first, of which the second alone is asked
    for.
    """
    raw = write_dataset(place / "raw", {"01": 2})
    write_json(place / "filter.json", {"megre": {"run": "2"}})
    arguments = [str(raw), str(place / "out"), "participant", *OPTIONS]
    second = [*arguments, "--bids-filter-file", str(place / "filter.json")]
    yield second, 1, ("failed: regions of sub-01_run-1", "cannot be used")
    yield arguments, 0, ("2 scans processed, 0 failed, 0 left out",)
    yield second, 0, ("1 scan processed, 0 failed, 0 left out",)


STUDIES = {
    "two protocols at a site": two_protocols,
    "echoes named as runs": echoes_in_tables,
    "calibration with a poor line": poor_calibration,
    "filter that loses regions": filter_that_loses_regions,
}


if __name__ == "__main__":
    sys.exit(main())
