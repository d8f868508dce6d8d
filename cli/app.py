"""The BIDS App ``multiqsm``."""

import argparse
import os
import signal
import sys
import threading
from contextlib import contextmanager
from pathlib import Path
from shutil import disk_usage

from .. import __version__
from ..cohort.model_files import SHIPPED
from ..dataset.problems import DatasetError
from ..workflows.settings import (
    BACKGROUNDS,
    DATA_WEIGHTS,
    INVERSIONS,
    LAMBDA_RULES,
    MEDI_DATA,
    PRESETS,
    ROI_SPACES,
    SUBJECT_SPACES,
    UNWRAPPINGS,
)
from .arguments import (
    EXIT_INTERRUPTED,
    EXIT_NOTHING_TO_DO,
    count,
    count_from_zero,
    not_negative,
    positive,
    share,
)
from .group import run_group
from .machine import JOBS
from .participant import run_participants

LEVELS = {"participant": run_participants, "group": run_group}


def main(argv=None):
    """Run the BIDS App.

    Parameters
    ----------
    argv : list of str, optional
        Arguments; those of the process if not given.

    Returns
    -------
    int
        0 if all went well; 1 if some scan was left out or failed; 2 if there was nothing to do, or nothing was done;
        130 if the run was interrupted.
    """
    options = _parser().parse_args(argv)
    try:
        with _ended_in_order():
            return LEVELS[options.analysis_level](options)
    except DatasetError as error:
        print(f"multiqsm: {error}", file=sys.stderr)
        return EXIT_NOTHING_TO_DO
    except OSError as error:
        print(f"multiqsm: {error}: {_folders(options)}", file=sys.stderr)
        return EXIT_NOTHING_TO_DO
    except KeyboardInterrupt:
        print("\nmultiqsm: interrupted; the same command goes on from here", file=sys.stderr)
        return EXIT_INTERRUPTED


def _folders(options):
    """Where is written to, what is wrong with that, and what to do."""
    said = []
    for name, folder in (("results", options.output_dir), ("intermediate files", options.work_dir)):
        there = next(path for path in (folder.absolute(), *folder.absolute().parents) if os.path.exists(path))
        usable = there.is_dir() and os.access(there, os.W_OK | os.X_OK)
        room = f"{disk_usage(there).free / 1e9:.2f} GB left" if usable else "which cannot be written to"
        said.append(f"{name} go to {folder} ({room})")
    return f"{', '.join(said)}; make room there, or choose other folders (-w for intermediate files)"


@contextmanager
def _ended_in_order():
    """Let a scheduler's or a shell's request to end do what Ctrl-C does: jobs that wait elsewhere are taken back."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    earlier = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, earlier)


def _parser():
    parser = argparse.ArgumentParser(
        prog="multiqsm",
        description="Quantitative susceptibility mapping of multi-echo gradient-echo scans in BIDS.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        argument_default=None,
    )
    parser.add_argument("bids_dir", type=Path, help="root of the BIDS dataset")
    parser.add_argument("output_dir", type=Path, help="root of the derivative dataset to write")
    parser.add_argument("analysis_level", choices=list(LEVELS), help="make maps, or compare them")
    parser.add_argument("--version", action="version", version=f"multiqsm {__version__}")

    choice = parser.add_argument_group("which scans")
    choice.add_argument("--participant-label", nargs="+", metavar="LABEL", help="only these participants")
    choice.add_argument("--session-label", nargs="+", metavar="LABEL", help="only these sessions")
    choice.add_argument(
        "--bids-filter-file", type=Path, metavar="FILE", help='JSON such as {"megre": {"acquisition": "x"}}'
    )
    choice.add_argument(
        "--derivatives", nargs="+", type=Path, metavar="DIR", help="datasets to look for masks and regions in"
    )
    choice.add_argument("--dry-run", action="store_true", help="check everything, say what would run, and stop")

    method = parser.add_argument_group("method; an option overrides the preset")
    preset_help = (
        "named set of choices; lin2015: the 2015 multisite study's; chiang2018: MEDI as the 2018 study of the thalamus"
    )
    method.add_argument("--preset", choices=list(PRESETS), default="default", help=preset_help)
    method.add_argument(
        "--inversion", dest="inversions", nargs="+", choices=list(INVERSIONS), help="susceptibility maps"
    )
    method.add_argument("--background", choices=BACKGROUNDS, help="background field removal")
    unwrapping_help = "of later echoes, what a line in time leaves: smooth in space, or less than half a turn"
    method.add_argument("--unwrapping", choices=UNWRAPPINGS, help=unwrapping_help)
    rule = method.add_mutually_exclusive_group()
    rule.add_argument("--lambda-rule", choices=LAMBDA_RULES, help="how λ is chosen")
    lambda_help = "fixed λ of the iterative and the deterministic inversion, mm"
    rule.add_argument("--lambda", dest="lambda_value", type=positive, metavar="MM", help=lambda_help)
    method.add_argument("--medi-lambda", type=positive, metavar="PPM_MM", help="fixed λ of MEDI, ppm·mm")
    medi_data_help = "MEDI compares phase factors, which whole turns leave as they are, or the field"
    method.add_argument("--medi-data", choices=MEDI_DATA, help=medi_data_help)
    error_help = "let MEDI believe voxels less whose field no susceptibility explains"
    method.add_argument("--model-error", action=argparse.BooleanOptionalAction, help=error_help)
    edges_help = "share of gradients that are edges; those that stand out of the noise if not given"
    method.add_argument("--edge-share", type=share, metavar="SHARE", help=edges_help)
    weight_help = "whether the iterative inversion believes noisy voxels less"
    method.add_argument("--data-weight", choices=DATA_WEIGHTS, help=weight_help)
    outside_help = "how far it believes that the field outside the brain is zero; from noise and field if not given"
    method.add_argument("--outside-weight", type=share, metavar="WEIGHT", help=outside_help)
    harmonize_help = (
        "bring all head scans to the voxel size, echoes and mask rule that the dataset's can have in common: for sites "
        "whose protocols differ"
    )
    method.add_argument("--harmonize", action="store_true", help=harmonize_help)
    reference_help = (
        "region whose mean is zero in tables: brain, csf (a label, or found by itself), atrium (small spheres in the "
        "lateral ventricles) or a label's name"
    )
    method.add_argument("--reference", metavar="REGION", help=reference_help)
    radius_help = "radius of the spheres of --reference atrium"
    method.add_argument("--atrium-radius", type=positive, metavar="MM", help=radius_help)
    atlas_help = "regions where none are drawn: pauli2017, fetched when it is needed, or a label image in MNI space"
    method.add_argument("--atlas", metavar="ATLAS", help=atlas_help)
    warp_help = "warp the template to the person as well; needs multiqsm[template]"
    method.add_argument("--template-warp", action=argparse.BooleanOptionalAction, help=warp_help)
    space_help = "where a person's maps are brought to: the middle of the scans, or the first scan"
    method.add_argument("--subject-space", choices=SUBJECT_SPACES, help=space_help)
    method.add_argument("--roi-space", choices=ROI_SPACES, help="where regions are measured")
    method.add_argument("--roi-erosion", type=not_negative, metavar="MM", help="erode regions by so much")
    smoothing_help = "smooth the surfaces of drawn and of FreeSurfer's regions by so much (full width at half maximum)"
    method.add_argument("--roi-smoothing", type=not_negative, metavar="MM", help=smoothing_help)
    veins_help = "leave veins in regions out, and those along the thalamus"
    method.add_argument("--exclude-veins", action=argparse.BooleanOptionalAction, help=veins_help)
    recon_help = "run FreeSurfer's recon-all, if it is installed, for people without its results"
    method.add_argument("--recon-all", action=argparse.BooleanOptionalAction, help=recon_help)
    draws_help = "realisations of noise for the standard error of maps without a closed form; 0 for no such maps"
    method.add_argument("--se-draws", type=count_from_zero, metavar="N", help=draws_help)
    sign_help = "sign of the phase, if not the manufacturer's"
    method.add_argument("--phase-sign", type=int, choices=(1, -1), help=sign_help)

    study = parser.add_argument_group("group level")
    calibrate_help = "correct values by the phantom scans of their site before all statistics"
    study.add_argument("--calibrate", action="store_true", help=calibrate_help)
    model_help = f"compute the regressions of a model: a JSON or YAML file, or by name {', '.join(SHIPPED)}"
    study.add_argument("--model", metavar="FILE", help=model_help)
    phenotype_help = "further tables of a model's patients, beside participants.tsv and phenotype/*.tsv"
    study.add_argument("--phenotype", nargs="+", type=Path, metavar="TSV", help=phenotype_help)
    freesurfer_help = "FreeSurfer's results, for a model (the dataset's derivatives/freesurfer if not given)"
    study.add_argument("--freesurfer-dir", type=Path, metavar="DIR", help=freesurfer_help)

    machine = parser.add_argument_group("machine")
    machine.add_argument("-w", "--work-dir", type=Path, default=Path("multiqsm_work"), help="intermediate files")
    procs_help = "processor cores: all of this machine if not set; on a cluster those of one job, 1 if not set"
    machine.add_argument("--n-procs", type=count, metavar="N", help=procs_help)
    machine.add_argument(
        "--mem-gb", type=positive, metavar="GB", help="memory limit; 90 %% of the machine's if not set"
    )
    plugin_help = "Nipype plugin that runs the jobs: MultiProc, Linear, SLURM, SGE, PBS, LSF, …"
    machine.add_argument("--plugin", default="MultiProc", help=plugin_help)
    use_help = "YAML or JSON file with plugin and plugin_args, instead of --plugin"
    machine.add_argument("--use-plugin", type=Path, metavar="FILE", help=use_help)
    jobs_help = (
        "what is one job: a scan (then a subject) from beginning to end, or every step; auto takes scans where there "
        "are enough of them for all cores"
    )
    machine.add_argument("--jobs", choices=JOBS, default=JOBS[0], help=jobs_help)
    retries_help = "how often a scan is begun again whose process or job was killed from outside"
    machine.add_argument("--retries", type=count_from_zero, default=2, metavar="N", help=retries_help)
    clean_help = "remove the intermediate files of what is finished"
    machine.add_argument("--clean-workdir", action="store_true", help=clean_help)
    return parser
