"""The BIDS App ``multiqsm``."""

import argparse
import os
import signal
import sys
import threading
from collections.abc import Sequence
from contextlib import contextmanager
from pathlib import Path
from shutil import disk_usage

from .. import __version__
from ..bids_templates import SHIPPED_MODELS
from ..dataset.problems import DatasetError
from ..workflows.settings import PRESETS
from .arguments import (
    EXIT_NOTHING_TO_DO,
    count,
    count_from_zero,
    interrupted,
    positive,
)
from .machine import DEFAULT_PLUGIN, DEFAULT_RETRIES, JOBS
from .options import add_settings
from .parser import DOCUMENTATION, TROUBLESHOOTING, CommandParser

EXAMPLES = f"""examples:
  multiqsm BIDS_DIR OUTPUT_DIR participant --dry-run
      check every scan, without processing
  multiqsm BIDS_DIR OUTPUT_DIR participant --participant-label 01 02 --n-procs 8
      maps and regional values of two subjects, on eight cores
  multiqsm BIDS_DIR OUTPUT_DIR group --calibrate
      reproducibility within and across scanners, corrected by phantom scans

BIDS: https://bids.neuroimaging.io
documentation: {DOCUMENTATION}; docs/methods.md describes how maps
are made, docs/reproducibility.md the group level, docs/clusters.md restarts and clusters;
docs/troubleshooting.md explains each message
"""

LEVELS = ("participant", "group")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the BIDS App.

    Parameters
    ----------
    argv : list of str, optional
        Arguments; those of the process if not given.

    Returns
    -------
    int
        0 if all scans were processed; 1 if some were left out or failed; 2 if there was nothing to
        process, or nothing could be processed; 130 if the run was interrupted.
    """
    options = make_parser().parse_args(argv)
    try:
        with _sigterm_as_interrupt():
            return _run_level(options)
    except DatasetError as error:
        print(f"multiqsm: {error}", TROUBLESHOOTING, sep="\n", file=sys.stderr)
        return EXIT_NOTHING_TO_DO
    except OSError as error:
        message = f"multiqsm: {error}; {_space_in_folders(options)}"
        print(message, TROUBLESHOOTING, sep="\n", file=sys.stderr)
        return EXIT_NOTHING_TO_DO
    except KeyboardInterrupt:
        return interrupted("multiqsm")


def _run_level(options: argparse.Namespace) -> int:
    # Imported only now, so that --help and errors in the command line come at once.
    if options.analysis_level == "participant":
        from .participant import run_participants

        return run_participants(options)
    from .group import run_group

    return run_group(options)


def _space_in_folders(options: argparse.Namespace) -> str:
    """Return which folders are written to, their free space, and what to do if it is exhausted."""
    folders = (
        f"results go to {options.output_dir} ({_space_in(options.output_dir)}), "
        f"intermediate files to {options.work_dir} ({_space_in(options.work_dir)})"
    )
    return f"{folders}; free space there, or choose other folders (-w for intermediate files)"


def _space_in(folder: Path) -> str:
    """Return the free space of a folder that may not exist yet."""
    existing = folder.absolute()
    while not os.path.exists(existing):
        existing = existing.parent
    if existing.is_dir() and os.access(existing, os.W_OK | os.X_OK):
        return f"{disk_usage(existing).free / 1e9:.2f} GB free"
    return "not writable"


@contextmanager
def _sigterm_as_interrupt():
    """Treat SIGTERM, which schedulers and shells send, as Ctrl-C, so that jobs on a cluster are
    cancelled.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    earlier_handler = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, earlier_handler)


def make_parser() -> argparse.ArgumentParser:
    """Make the parser of the command line.

    Returns
    -------
    argparse.ArgumentParser
    """
    parser = CommandParser(
        prog="multiqsm",
        description=(
            "Quantitative susceptibility mapping (QSM) of multi-echo gradient-echo scans in a\n"
            "BIDS dataset: susceptibility maps of every scan, regional values of every subject,\n"
            "and their reproducibility within and across scanners."
        ),
        epilog=EXAMPLES,
    )
    parser.add_argument("bids_dir", type=Path, help="root of the BIDS dataset")
    parser.add_argument(
        "output_dir", type=_output_dir, help="root of the derivative dataset to write"
    )
    parser.add_argument(
        "analysis_level",
        choices=LEVELS,
        help="participant: maps and regional values; group: reproducibility and other statistics",
    )
    parser.add_argument("--version", action="version", version=f"multiqsm {__version__}")
    _add_choice_of_scans(parser.add_argument_group("selection of scans"))
    method = parser.add_argument_group("methods; each option overrides the preset")
    preset_help = (
        "named set of choices; lin2015: as the 2015 multisite study; chiang2018: MEDI as the 2018 "
        "study of the thalamus (default: %(default)s)"
    )
    method.add_argument("--preset", choices=list(PRESETS), default="default", help=preset_help)
    add_settings(method)
    _add_group_level(parser.add_argument_group("group level"))
    _add_machine(parser.add_argument_group("machine"))
    return parser


def _output_dir(text: str) -> Path:
    """Refuse the name of a level, which is in this place if the folder was forgotten."""
    if text in LEVELS:
        raise argparse.ArgumentTypeError(
            f"the output folder is missing before {text} (write ./{text} for a folder of that name)"
        )
    return Path(text)


def _add_choice_of_scans(choice):
    choice.add_argument(
        "--participant-label",
        nargs="+",
        metavar="LABEL",
        help="process only these participants (default: all)",
    )
    choice.add_argument(
        "--session-label",
        nargs="+",
        metavar="LABEL",
        help="process only these sessions (default: all)",
    )
    filter_help = 'JSON file that selects scans by BIDS entities: {"megre": {"acquisition": "x"}}'
    choice.add_argument("--bids-filter-file", type=Path, metavar="FILE", help=filter_help)
    exclude_help = (
        "file that lists scans, sessions or participants to leave out, one a line, with the reason "
        "after a tab, or a table; at both levels (default: only those that columns exclude and "
        "quality of the dataset's tables leave out)"
    )
    choice.add_argument("--exclude", type=Path, metavar="FILE", help=exclude_help)
    derivatives_help = (
        "derivative datasets with brain masks and regions (default: all in BIDS_DIR/derivatives)"
    )
    choice.add_argument("--derivatives", nargs="+", type=Path, metavar="DIR", help=derivatives_help)
    choice.add_argument(
        "--skip-bids-validation",
        action="store_true",
        help="no effect; accepted for compatibility with other BIDS Apps: multiqsm checks what it "
        "needs by itself",
    )
    choice.add_argument(
        "--dry-run",
        action="store_true",
        help="check all scans and print what would be processed, without processing it",
    )


def _add_group_level(study):
    calibrate_help = (
        "correct regional values by the phantom scans of their site before all statistics "
        "(default: no; with --preset lin2015: if there are phantom scans)"
    )
    study.add_argument("--calibrate", action=argparse.BooleanOptionalAction, help=calibrate_help)
    margin_help = (
        "the test of equivalence rejects that imprecision across and within sites differ by this "
        "many ppb or more (default: the imprecision of each region in the 2015 study)"
    )
    study.add_argument("--equivalence-margin", type=positive, metavar="PPB", help=margin_help)
    model_help = (
        "fit the regressions of a study model: a JSON or YAML file, or the name of one that comes "
        f"with multiqsm ({', '.join(SHIPPED_MODELS)}) (default: none)"
    )
    study.add_argument("--model", metavar="FILE", help=model_help)
    phenotype_help = (
        "further tables of participants for --model (default: participants.tsv and phenotype/*.tsv "
        "only)"
    )
    study.add_argument("--phenotype", nargs="+", type=Path, metavar="TSV", help=phenotype_help)
    freesurfer_help = (
        "FreeSurfer's subjects directory, for --model (default: BIDS_DIR/derivatives/freesurfer)"
    )
    study.add_argument("--freesurfer-dir", type=Path, metavar="DIR", help=freesurfer_help)


def _add_machine(machine):
    work_help = "directory of intermediate files (default: %(default)s)"
    machine.add_argument(
        "-w", "--work-dir", type=Path, default=Path("multiqsm_work"), help=work_help
    )
    procs_help = (
        "number of processor cores (default: all of this machine); on a cluster, cores of each job "
        "(default: 1)"
    )
    machine.add_argument("--n-procs", type=count, metavar="N", help=procs_help)
    memory_help = "memory limit in GB (default: 90 %% of the machine's)"
    machine.add_argument("--mem-gb", type=positive, metavar="GB", help=memory_help)
    plugin_help = (
        "Nipype plugin that runs the jobs, such as MultiProc, Linear, SLURM, SGE, PBS or LSF "
        "(default: %(default)s)"
    )
    machine.add_argument("--plugin", default=DEFAULT_PLUGIN, help=plugin_help)
    use_help = "YAML or JSON file with plugin and plugin_args (default: as --plugin)"
    machine.add_argument("--use-plugin", type=Path, metavar="FILE", help=use_help)
    jobs_help = (
        "unit of work of a job: a whole scan (or subject), or a single step; auto: scans, if there "
        "are enough to keep all cores busy, or else steps (default: %(default)s)"
    )
    machine.add_argument("--jobs", choices=JOBS, default=JOBS[0], help=jobs_help)
    retries_help = (
        "how often a scan is restarted after its process or job was killed (default: %(default)s)"
    )
    machine.add_argument(
        "--retries", type=count_from_zero, default=DEFAULT_RETRIES, metavar="N", help=retries_help
    )
    machine.add_argument(
        "-v",
        "--verbose",
        action="count",
        default=0,
        help="print the log of each step at the terminal as well; -vv: with all details "
        "(default: only to the log in the work directory)",
    )
    clean_help = "remove intermediate files of finished scans and subjects (default: keep them)"
    machine.add_argument("--clean-workdir", action="store_true", help=clean_help)


if __name__ == "__main__":
    raise SystemExit(main())
