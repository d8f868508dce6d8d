"""Read perturbed sidecars, tables, filters, NIfTI files and datasets, by the thousand.

    python benchmarks/fuzz.py [{sidecars,tables,filters,images,datasets} ...] [--n N] [--seed S]
                              [--limit SECONDS] [--minutes M] [--keep DIR]

sidecars, tables, filters, images:
    One file is perturbed, and read by the functions that read it in a run and in its checks.
datasets:
    One to three files of a small dataset are perturbed; then `multiqsm-audit` and a dry run check
    it.

The inputs of a seed are always the same. Prints a Markdown table, and below it a line for each kind
of fault; an input that causes one is kept with --keep. The exit code is 1 if there is one. Faults:

- an exception other than the errors that are written for users, or a warning of Python or numpy;
- an input that takes longer than --limit;
- a file that is written, changed or removed outside the output and work folders;
- a message that does not name the file, or has characters that cannot be printed.
"""

import argparse
import contextlib
import io
import json
import os
import pickle
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from dataclasses import replace
from pathlib import Path

import fuzz_inputs as inputs
import numpy as np
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

import multiqsm as multiqsm_package
from multiqsm.cli.app import main as multiqsm
from multiqsm.cli.audit import main as multiqsm_audit
from multiqsm.cli.machine import read_options
from multiqsm.cohort.roi_tables import read_roi_table
from multiqsm.dataset.anatomy import read_points
from multiqsm.dataset.audit import audit_problems
from multiqsm.dataset.collection import collect_scans
from multiqsm.dataset.labels import read_lookup
from multiqsm.dataset.preflight.echoes import check_echo_times, check_echoes
from multiqsm.dataset.preflight.frequency import check_frequency
from multiqsm.dataset.preflight.inspection import Inspection, inspect_scan
from multiqsm.dataset.preflight.metadata import check_sidecars
from multiqsm.dataset.problems import DatasetError
from multiqsm.dataset.tables import read_text_table

PACKAGE = Path(multiqsm_package.__file__).parent
CHUNK = 1000  # inputs of one run of hypothesis, which remembers all of them
ECHO_TIMES = (0.006, 0.012)  # s
OUTCOMES = ("accepted", "refused")
FAULTS = ("traceback", "hang", "written elsewhere", "file not named", "unprintable")


class Hang(BaseException):
    """An input takes too long; no handler of errors may catch it."""


class Fault(Exception):
    """What is wrong with the reaction to an input: its kind, and the details."""


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parsers", nargs="*", help=f"of {', '.join(PARSERS)} (default: all)")
    n_help = "number of inputs of each parser; a tenth as many datasets"
    parser.add_argument("--n", type=int, default=1000, help=n_help)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--limit", type=float, default=20, help="seconds that an input may take")
    parser.add_argument("--minutes", type=float, help="stop after so many (default: do all inputs)")
    parser.add_argument("--keep", type=Path, help="folder for inputs that cause faults")
    options = parser.parse_args()
    if unknown := set(options.parsers) - set(PARSERS):
        parser.error(f"no parser {', '.join(unknown)}: choose from {', '.join(PARSERS)}")
    signal.signal(signal.SIGALRM, _interrupt)
    warnings.simplefilter("error")
    rows = []
    faults = {}
    for name in options.parsers or PARSERS:
        with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
            campaign = Campaign(name, Path(folder), options)
            rows.append(campaign.run())
            faults |= campaign.faults
    print_table(("parser", "inputs", *OUTCOMES, *FAULTS, "s"), *rows)
    print(f"\n{len(faults)} kinds of fault", *faults.values(), sep="\n")
    return 1 if faults else 0


class Campaign:
    """The inputs of one parser, and what became of them."""

    def __init__(self, name, folder, options):
        self.name = name
        self.options = options
        self.n = max(1, options.n // 10) if name == "datasets" else options.n
        self.target = PARSERS[name](folder)
        self.counts = Counter()
        self.faults = {}

    def run(self):
        """Return the row of the table."""
        started = time.monotonic()
        number = 0
        while self.counts["inputs"] < self.n and not self._is_late(started):
            self._run_chunk(min(CHUNK, self.n - self.counts["inputs"]), number)
            number += 1
        seconds = round(time.monotonic() - started)
        columns = ("inputs", *OUTCOMES, *FAULTS)
        return (self.name, *(self.counts[column] for column in columns), seconds)

    def _is_late(self, started):
        minutes = self.options.minutes
        return minutes is not None and time.monotonic() - started > 60 * minutes

    def _run_chunk(self, n, number):
        """Try inputs that depend on nothing but the seed and the number of the chunk."""

        @seed(1000 * self.options.seed + number)
        @settings(
            max_examples=n,
            database=None,
            deadline=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(self.target.strategy)
        def attempt(content):
            self._attempt(content)

        attempt()

    def _attempt(self, content):
        self.counts["inputs"] += 1
        signal.setitimer(signal.ITIMER_REAL, self.options.limit)
        try:
            outcome = self.target.read(content)
        except Fault as fault:
            kind, details = fault.args
            self._record(kind, details, content)
        except Hang as hang:
            self._record("hang", place_of(hang), content)
        except (Exception, SystemExit) as error:  # whatever a parser did not expect
            details = f"{type(error).__name__}: {str(error)[:200]} ({place_of(error)})"
            self._record("traceback", details, content)
        else:
            self.counts[outcome] += 1
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)

    def _record(self, kind, details, content):
        """Count a fault; print and keep the first input of its kind."""
        self.counts[kind] += 1
        # One key for each place of an error, and for each message but for its paths and values.
        words = [word for word in details.split() if word.isalpha()]
        place = details.rpartition("(")[2] if kind == "traceback" else " ".join(words[:5])
        key = (self.name, kind, place)
        if key in self.faults:
            return
        self.faults[key] = f"{self.name}, {kind}: {details}"
        print(self.faults[key], repr(content)[:600], file=sys.stderr, flush=True)
        if self.options.keep:
            self.options.keep.mkdir(parents=True, exist_ok=True)
            path = self.options.keep / f"{self.name}-{len(self.faults)}.pickle"
            path.write_bytes(pickle.dumps(content))


def _interrupt(number, frame):
    raise Hang


def place_of(error):
    """Return the innermost line of the package that an error went through."""
    frames = traceback.extract_tb(error.__traceback__)
    inside = [frame for frame in frames if Path(frame.filename).is_relative_to(PACKAGE)]
    frame = (inside or frames)[-1]
    return f"{Path(frame.filename).name}:{frame.lineno}"


def check_message(text, names):
    """Raise a fault unless a message can be printed and names one of the files."""
    if not text.replace("\n", "").isprintable():
        raise Fault("unprintable", repr(text[:300]))
    if not any(name in text for name in names):
        raise Fault("file not named", f"none of {', '.join(names)} in {text[:300]!r}")


def one_line_of(error):
    """Return the message of an error; a fault if it has several lines."""
    if "\n" in str(error):
        raise Fault("unprintable", repr(str(error)[:300]))
    return str(error)


def stem(name):
    """Return a file's name without extensions, which stands for the image and its sidecar."""
    return Path(name).name.split(".")[0]


def print_table(*rows):
    for place, row in enumerate(rows):
        print(f"| {' | '.join(map(str, row))} |")
        if place == 0:
            print("|" + "---|" * len(row))


# --- a small dataset ----------------------------------------------------------------------------


def valid_sidecar(part, echo_time):
    return {
        "Manufacturer": "Siemens",
        "MagneticFieldStrength": 3,
        "ImagingFrequency": 123.2,
        "EchoTime": echo_time,
        "Units": "rad" if part == "phase" else "arbitrary",
        "RepetitionTime": 0.03,
        "FlipAngle": 15,
    }


def dataset_files():
    """Return the files of a dataset of two people, by their paths below its root."""
    description = {"Name": "Fuzz", "BIDSVersion": "1.10.0"}
    rater = {**description, "DatasetType": "derivative", "GeneratedBy": [{"Name": "rater"}]}
    files = {
        "dataset_description.json": json.dumps(description),
        "participants.tsv": "participant_id\tsite\tage\nsub-01\tA\t30\nsub-02\tA\t40\n",
        "derivatives/rater/dataset_description.json": json.dumps(rater),
    }
    random = np.random.default_rng(0)
    for subject in ("01", "02"):
        anat = f"sub-{subject}/anat/sub-{subject}"
        drawn = f"derivatives/rater/{anat}"
        for echo, echo_time in enumerate(ECHO_TIMES, start=1):
            for part, limits in (("mag", (50, 100)), ("phase", (-3.1, 3.1))):
                name = f"{anat}_echo-{echo}_part-{part}_MEGRE"
                values = random.uniform(*limits, inputs.SHAPE)
                files[f"{name}.nii.gz"] = inputs.gzip.compress(inputs.image_bytes(values), 1)
                files[f"{name}.json"] = json.dumps(valid_sidecar(part, echo_time))
        labels = np.zeros(inputs.SHAPE)
        labels[2:4, 2:4, 1:3] = 1
        files[f"{drawn}_dseg.nii"] = inputs.image_bytes(labels, 4)
        files[f"{drawn}_dseg.tsv"] = "index\tname\n1\tputamen\n"
    mask = np.ones(inputs.SHAPE)
    mask[0] = 0
    files["derivatives/rater/sub-01/anat/sub-01_desc-brain_mask.nii"] = inputs.image_bytes(mask, 2)
    contents = {}
    for name, content in files.items():
        contents[name] = content.encode() if isinstance(content, str) else content
    return contents


def write_files(root, files):
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def listing(folder):
    """Return size and time of each file below a folder."""
    entries = {}
    for path in folder.rglob("*"):
        status = path.lstat()
        entries[path] = (status.st_size, status.st_mtime_ns)
    return entries


class Target:
    """A dataset in a folder, one file of which is replaced by each input."""

    def __init__(self, folder):
        self.root = folder / "raw"
        write_files(self.root, dataset_files())
        self.names = set(os.listdir(self.root))
        self.anat = self.root / "sub-01" / "anat"

    def require_unchanged(self, folder):
        """Raise a fault if a file appeared beside the input."""
        if set(os.listdir(folder)) - self.names:
            raise Fault("written elsewhere", str(os.listdir(folder)))


# --- single files -------------------------------------------------------------------------------


class Sidecars(Target):
    """The sidecar of a phase image, or one that all phase images share."""

    def __init__(self, folder):
        super().__init__(folder)
        shutil.rmtree(self.root / "derivatives")
        self.path = self.anat / "sub-01_echo-2_part-phase_MEGRE.json"
        self.names = set(os.listdir(self.anat))
        self.strategy = inputs.sidecars(valid_sidecar("phase", ECHO_TIMES[1]))

    def read(self, content):
        self.path.write_bytes(content)
        scans, left_out = collect_scans(self.root, participant_label=["01"], none_is_an_error=False)
        inspections = []
        for scan in scans:
            problems = [
                *check_echoes(scan),
                *check_echo_times(scan),
                *check_frequency(scan),
                *check_sidecars(scan),
            ]
            inspections.append(Inspection(scan, tuple(problems)))
        problems = audit_problems(inspections, left_out)
        self.require_unchanged(self.anat)
        errors = [str(problem) for problem in problems if problem.severity == "error"]
        if not errors:
            return "accepted"
        check_message("\n".join(errors), [stem(self.path.name)])
        return "refused"


class Tables(Target):
    """Tables of participants, sessions, labels, points, scores and regional values."""

    def __init__(self, folder):
        super().__init__(folder)
        self.strategy = st.sampled_from(list(inputs.TABLES)).flatmap(
            lambda name: st.tuples(st.just(name), inputs.tables(inputs.TABLES[name]))
        )
        shutil.rmtree(self.root / "derivatives")
        write_files(self.root, session_files())
        self.names = {*os.listdir(self.root), *inputs.TABLES}

    def read(self, content):
        name, text = content
        path = self.root / ("sub-02/sub-02_sessions.tsv" if name == "sessions.tsv" else name)
        path.write_bytes(text)
        try:
            return self._read(name, path)
        except DatasetError as error:
            check_message(one_line_of(error), [path.name])
            return "refused"
        finally:
            path.unlink()
            self.require_unchanged(self.root)

    def _read(self, name, path):
        if name in ("participants.tsv", "sessions.tsv"):
            scans, left_out = collect_scans(self.root, none_is_an_error=False)
            inspections = [Inspection(scan, ()) for scan in scans]
            audit_problems(inspections, left_out)
            if not left_out:
                return "accepted"
            check_message("\n".join(map(str, left_out)), [path.name])
            return "refused"
        reader = {
            "dseg.tsv": read_lookup,
            "points.tsv": read_points,
            "phenotype.tsv": read_text_table,
            "chi.tsv": read_roi_table,
        }[name]
        reader(path)
        return "accepted"


def session_files():
    """Return a scan with a session, which sessions.tsv describes."""
    files = {}
    for name, content in dataset_files().items():
        if name.startswith("sub-02/"):
            files[name.replace("sub-02/anat/sub-02", "sub-02/ses-A/anat/sub-02_ses-A")] = content
    return files


class Filters(Target):
    """Filter files in JSON and YAML."""

    strategy = inputs.filters()

    def read(self, content):
        name, text = content
        path = self.root.parent / name
        path.write_bytes(text)
        try:
            bids_filter = read_options(path, "--bids-filter-file")
            collect_scans(self.root, bids_filter=bids_filter, none_is_an_error=False)
            return "accepted"
        except DatasetError as error:
            check_message(one_line_of(error), ["--bids-filter-file"])
            return "refused"
        finally:
            path.unlink()
            self.require_unchanged(self.root)


class Images(Target):
    """A phase image or a brain mask."""

    strategy = st.tuples(st.sampled_from(["phase", "phase", "mask"]), inputs.images())

    def __init__(self, folder):
        super().__init__(folder)
        (self.scan,), _ = collect_scans(self.root, participant_label=["01"])
        self.folder = folder
        self.before = set(os.listdir(folder))

    def read(self, content):
        role, (is_compressed, voxels) = content
        path = self.folder / f"sub-01_echo-2_part-phase_MEGRE.nii{'.gz' * is_compressed}"
        path.write_bytes(voxels)
        if role == "mask":
            scan = replace(self.scan, brain_mask=path)
        else:
            sidecars = {**self.scan.sidecars, path.name: valid_sidecar("phase", ECHO_TIMES[1])}
            phase = (self.scan.phase[0], path)
            scan = replace(self.scan, phase=phase, sidecars=sidecars, brain_mask=None)
        try:
            inspection = inspect_scan(scan)
        finally:
            path.unlink()
        if set(os.listdir(self.folder)) != self.before:
            raise Fault("written elsewhere", str(os.listdir(self.folder)))
        errors = []
        for problem in inspection.problems:
            if problem.severity == "error":
                errors.append(str(problem))
        if not errors:
            return "accepted"
        check_message(" ".join(map(one_line_of, errors)), [path.name])
        return "refused"


# --- datasets -----------------------------------------------------------------------------------


class Datasets(Target):
    """Whole datasets, of which one to three files are perturbed, moved or removed."""

    def __init__(self, folder):
        super().__init__(folder)
        self.folder = folder
        self.files = dataset_files()
        self.strategy = changes(self.files)
        os.chdir(folder)

    def read(self, content):
        shutil.rmtree(self.root)
        write_files(self.root, self.files)
        bids_filter = apply_changes(self.root, content)
        before = listing(self.folder)
        names = {"--bids-filter-file"}
        for action, name, replacement in content:
            names.add(stem(name))
            if action in ("rename", "copy"):
                names.add(stem(name.replace(*replacement)))
        options = ["--bids-filter-file", str(bids_filter)] if bids_filter else []
        audit = [str(self.root), "--n-procs", "1", *options]
        code, text = run_command(multiqsm_audit, audit)
        out = self.folder / "out"
        work = self.folder / "work"
        dry_run = [str(self.root), str(out), "participant", "--dry-run", "-w", str(work)]
        dry_code, dry_text = run_command(multiqsm, [*dry_run, "--n-procs", "1", *options])
        if listing(self.folder) != before:
            changed = set(listing(self.folder).items()) ^ set(before.items())
            raise Fault("written elsewhere", str(sorted(str(path) for path, _ in changed))[:300])
        for exit_code, message in ((code, text), (dry_code, dry_text)):
            if exit_code not in (0, 1, 2):
                raise Fault("traceback", f"exit code {exit_code}: {message[-300:]}")
            check_message(message, sorted(names) if exit_code else [""])
        return "refused" if code or dry_code else "accepted"


def run_command(command, arguments):
    """Return a command's exit code and all that it prints."""
    stream = io.StringIO()
    with contextlib.redirect_stdout(stream), contextlib.redirect_stderr(stream):
        code = command(arguments)
    return code, stream.getvalue()


@st.composite
def changes(draw, files):
    """Return one to three changes: what is done, to which file, and the new content or name."""
    chosen = draw(st.lists(st.sampled_from(sorted(files)), min_size=1, max_size=3, unique=True))
    changed = []
    for name in chosen:
        action = draw(st.sampled_from(["perturb"] * 7 + ["remove", "rename", "copy", "link"]))
        content = None
        if action == "perturb":
            content = draw(_perturbed(name))
        elif action in ("rename", "copy"):
            content = draw(st.sampled_from(RENAMED))
        changed.append((action, name, content))
    if draw(st.integers(0, 5)) == 0:
        file_name, content = draw(inputs.filters())
        changed.append(("filter", file_name, content))
    return changed


# Replacements in the names of files.
RENAMED = (
    *[("_echo-2", ""), ("_echo-2", "_echo-02"), ("_echo-2", "_echo-1"), ("_echo-2", "_echo-x")],
    *[("sub-01", "sub-03"), ("MEGRE", "T2starw"), ("MEGRE", "bold"), ("_part-phase", "")],
    *[("_part-mag", "_part-imag"), ("_MEGRE", "_run-1_MEGRE"), ("_MEGRE", "_acq-ü_MEGRE")],
    *[("_part", "_run-1_run-2_part"), (".nii.gz", ".nii"), (".nii", ".NII"), (".json", ".json~")],
    *[("_dseg", "_desc-rois_dseg"), ("sub-0", "sub-0 0"), ("participants", "Participants")],
)


def _perturbed(name):
    """Return the strategy of a file's contents."""
    if name.endswith((".nii", ".nii.gz")):
        kind = "binary" if "_mask" in name else "labels" if "_dseg" in name else "random"
        kinds = (kind, *inputs.VOXELS)
        is_compressed = name.endswith(".gz")
        return inputs.images(kinds, compressed=is_compressed).map(lambda image: image[1])
    if name.endswith(".tsv"):
        return inputs.tables(inputs.TABLES[name.rpartition("_")[2]])
    part = "phase" if "phase" in name else "mag"
    return inputs.sidecars(valid_sidecar(part, ECHO_TIMES["echo-2" in name]))


def apply_changes(root, changed):
    """Change the files of a dataset; return the path of a filter file, if there is one."""
    bids_filter = None
    for action, name, content in changed:
        path = root / name
        if action == "perturb":
            path.write_bytes(content)
        elif action == "filter":
            bids_filter = root.parent / name
            bids_filter.write_bytes(content)
        elif action == "remove":
            path.unlink()
        elif action == "link":
            path.unlink()
            path.symlink_to(path.name)
        else:
            target = path.with_name(path.name.replace(*content))
            if not target.exists():
                (shutil.move if action == "rename" else shutil.copy)(path, target)
    return bids_filter


PARSERS = {
    "sidecars": Sidecars,
    "tables": Tables,
    "filters": Filters,
    "images": Images,
    "datasets": Datasets,
}

if __name__ == "__main__":
    sys.exit(main())
