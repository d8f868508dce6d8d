"""``multiqsm-simulate``: a simulated study whose true susceptibility is known."""

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from .. import __version__
from ..dataset.values import counted
from ..simulation.names import (
    COHORT,
    DESIGNS,
    EFFECTS,
    FINDINGS,
    LESION_FINDINGS,
    PHANTOM_ONLY,
    effects_of,
)
from .arguments import (
    EXIT_FAILED_SCANS,
    EXIT_NOTHING_TO_DO,
    EXIT_OK,
    available_cores,
    count,
    interrupted,
    positive,
    whole_number,
)
from .parser import CommandParser

DESIGN_DEFAULT = "(default: the design's)"
EXAMPLES = """examples:
  multiqsm-simulate OUTPUT_DIR
      two people at three sites, two scans each
  multiqsm-simulate OUTPUT_DIR --design phantom --sites A B
      a phantom of gadolinium solutions at two sites
  multiqsm-simulate OUTPUT_DIR --design cosmos
      one head in five positions, as for susceptibility from several directions of B0
  multiqsm-simulate OUTPUT_DIR --design thalamus --tables-only
      the clinical tables of a study of patients, without images

documentation: docs/simulation.md of the source distribution
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Simulate a study.

    Parameters
    ----------
    argv : list of str, optional
        Arguments; those of the process if not given.

    Returns
    -------
    int
        0 if all scans were simulated; 1 if some failed; 2 if the options contradict each other;
        130 if it was interrupted.
    """
    options = _parser().parse_args(argv)
    make_dataset = _make_cohort if options.design == COHORT else _make_study
    try:
        return make_dataset(options)
    except KeyboardInterrupt:
        return interrupted("multiqsm-simulate")
    except ValueError as error:
        print(f"multiqsm-simulate: {error}", file=sys.stderr)
        return EXIT_NOTHING_TO_DO


def _make_cohort(options):
    if options.runs is not None:
        raise ValueError(f"--design {COHORT} has one scan of each patient: leave out --runs")
    if options.sites is not None:
        raise ValueError(f"--design {COHORT} has one site: leave out --sites")
    if options.vary_protocols:
        raise ValueError(f"--design {COHORT} has one site: leave out --vary-protocols")
    # Imported only now, so that --help and errors in the command line come at once.
    from ..dataset.simulated.cohort import write_cohort
    from ..dataset.simulated.layout import TRUTH
    from ..simulation.cohort import PATIENTS, draw_patients
    from ..simulation.study import make_patient_design

    patients = draw_patients(options.subjects or PATIENTS, seed=options.seed)
    design = make_patient_design(
        patients,
        voxel_size=options.voxel_size,
        flow_phase=options.flow_phase,
        effects=_effects(options),
        seed=options.seed,
    )
    write_cohort(options.output_dir, patients, design)
    print(
        f"tables of {counted(len(patients), 'patient')}: {options.output_dir}; ground truth: "
        f"{options.output_dir / TRUTH}"
    )
    return EXIT_OK if options.tables_only else _make_scans(design, options)


def _make_study(options):
    if options.tables_only:
        raise ValueError(
            f"--tables-only needs --design {COHORT}: the design {options.design} has images only"
        )
    from ..dataset.simulated.description import write_dataset_files
    from ..simulation.study import make_design

    design = make_design(
        options.design,
        subjects=options.subjects,
        runs=options.runs,
        sites=options.sites,
        voxel_size=options.voxel_size,
        vary_protocols=options.vary_protocols,
        flow_phase=options.flow_phase,
        effects=_effects(options),
        seed=options.seed,
    )
    write_dataset_files(options.output_dir, design)
    return _make_scans(design, options)


def _effects(options):
    """Return the effects that the options ask for: all by default."""
    from ..simulation.effects import ALL, IDEAL, ROUGH

    _check_effects(options)
    if options.ideal:
        effects = IDEAL
    elif options.effects is not None:
        effects = ALL.only(*options.effects)
    else:
        effects = ROUGH.without(*options.without_effects)
    if options.pathology is None:
        return effects
    from ..simulation.effects.pathology import Pathology

    return replace(effects, pathology=Pathology().only(*options.pathology))


def _check_effects(options):
    """Raise a `ValueError` if an effect or finding is asked for that the design cannot have."""
    design = options.design
    possible = effects_of(design)
    asked = options.effects or []
    impossible = [name for name in asked if name not in possible]
    if impossible:
        raise ValueError(
            f"--design {design} has no {_objects_that_have(impossible[0])}, so that its scans "
            f"cannot have --effects {' '.join(impossible)}; they can have {', '.join(possible)}"
        )
    if options.pathology is None:
        return
    if "pathology" not in possible:
        raise ValueError(f"--design {design} has no heads: leave out --pathology")
    if "pathology" in options.without_effects:
        raise ValueError(
            "--pathology and --without-effects pathology contradict each other: leave out one"
        )
    without_lesions = [name for name in options.pathology if name in LESION_FINDINGS]
    if without_lesions and design != COHORT:
        raise ValueError(
            f"--pathology {' '.join(without_lesions)} needs lesions, which only the patients of "
            f"--design {COHORT} have"
        )


def _objects_that_have(effect):
    """Return what has an effect that a design cannot have, in words."""
    return "phantom" if effect in PHANTOM_ONLY else "heads"


def _make_scans(design, options):
    from ..dataset.simulated.effects import write_drawn
    from ..dataset.simulated.layout import TRUTH, is_complete

    plans = [plan for plan in design.plans if not is_complete(options.output_dir, plan)]
    failures = _simulate(plans, options) if plans else []
    write_drawn(options.output_dir)
    for failure in failures:
        print(f"failed: {failure.scan}: {failure}", file=sys.stderr)
    n_complete = len(design.plans) - len(failures)
    print(f"{n_complete} of {counted(len(design.plans), 'scan')} complete")
    print(f"dataset: {options.output_dir}; ground truth: {options.output_dir / TRUTH}")
    return EXIT_FAILED_SCANS if failures else EXIT_OK


def _simulate(plans, options):
    """Simulate scans, each as a node; return the failures."""
    from ..dataset.entities import scan_label
    from ..dataset.simulated.layout import remove_partials
    from ..execution.plugins import Runner
    from ..execution.run import configure_nipype, run_with_progress
    from ..workflows.simulation import init_simulation_wf, node_name

    output_dir = options.output_dir.absolute()
    work_dir = options.work_dir.absolute()
    # Before any scan is simulated, since scans that are simulated at the same time share folders.
    for plan in plans:
        remove_partials(output_dir, plan)
    configure_nipype(work_dir)
    # Many scans keep the cores busy by themselves; few leave some for threads.
    threads = max(1, options.n_procs // len(plans))
    workflow = init_simulation_wf(plans, output_dir=output_dir, work_dir=work_dir, threads=threads)
    labels = {}
    for plan in plans:
        labels[node_name(plan)] = scan_label(plan.entities)
    with Runner("MultiProc", {"n_procs": options.n_procs}) as runner:
        return run_with_progress(workflow, runner, "scans", labels=labels)


def _parser():
    parser = CommandParser(
        prog="multiqsm-simulate",
        description="Simulate a multisite study of multi-echo gradient-echo scans, with its\n"
        "ground truth, as a BIDS dataset. Scans that exist already are not simulated again.",
        epilog=EXAMPLES,
    )
    parser.add_argument("output_dir", type=Path, help="root of the dataset to write")
    parser.add_argument("--version", action="version", version=f"multiqsm {__version__}")
    _add_study(parser.add_argument_group("study"))
    _add_scans(parser.add_argument_group("scans"))
    _add_effects(parser.add_argument_group("effects beyond the ideal scan"))
    machine = parser.add_argument_group("machine")
    machine.add_argument(
        "--n-procs",
        type=count,
        default=available_cores(),
        metavar="N",
        help="number of processor cores (default: all of this machine, %(default)s)",
    )
    work_help = "directory of log and crash files (default: %(default)s)"
    machine.add_argument(
        "-w", "--work-dir", type=Path, default=Path("multiqsm_work"), help=work_help
    )
    return parser


def _add_study(study):
    study.add_argument(
        "--design",
        choices=[*DESIGNS, COHORT],
        default="demo",
        help="the study to simulate (default: %(default)s)",
    )
    study.add_argument(
        "--subjects", type=count, metavar="N", help=f"number of people {DESIGN_DEFAULT}"
    )
    study.add_argument(
        "--runs", type=count, metavar="N", help=f"scans in each session {DESIGN_DEFAULT}"
    )
    study.add_argument(
        "--sites",
        nargs="+",
        metavar="LABEL",
        help=f"simulate only these sites, of A, B and C {DESIGN_DEFAULT}",
    )
    tables_help = f"simulate no images, only the tables of --design {COHORT} (default: both)"
    study.add_argument("--tables-only", action="store_true", help=tables_help)
    study.add_argument(
        "--seed",
        type=whole_number,
        default=0,
        metavar="N",
        help="random seed (default: %(default)s)",
    )


def _add_scans(scans):
    scans.add_argument(
        "--voxel-size",
        nargs=3,
        type=positive,
        metavar=("X", "Y", "Z"),
        help=f"in mm, in the same field of view {DESIGN_DEFAULT}",
    )
    vary_help = (
        "scan heads at each site with its own voxel size and echo times, as in studies without a "
        "common protocol (default: one protocol)"
    )
    scans.add_argument("--vary-protocols", action="store_true", help=vary_help)
    flow_help = (
        "largest flow-induced phase of the CSF in the lateral ventricles, at the last echo, in "
        "radians (default: none)"
    )
    scans.add_argument("--flow-phase", type=positive, default=0.0, metavar="RAD", help=flow_help)


def _add_effects(effects):
    exclusive = effects.add_mutually_exclusive_group()
    exclusive.add_argument(
        "--ideal",
        action="store_true",
        help="leave out all effects: nobody breathes or moves during a scan, the scanner and the "
        "phantom are perfect (default: all effects but a bipolar readout and swallowing)",
    )
    exclusive.add_argument(
        "--effects",
        nargs="+",
        choices=EFFECTS,
        metavar="EFFECT",
        help=f"simulate these effects only, of {', '.join(EFFECTS)}",
    )
    exclusive.add_argument(
        "--without-effects",
        nargs="+",
        choices=EFFECTS,
        default=[],
        metavar="EFFECT",
        help="leave out these effects",
    )
    effects.add_argument(
        "--pathology",
        nargs="+",
        choices=FINDINGS,
        metavar="FINDING",
        help=f"give every head these findings and no others, of {', '.join(FINDINGS)} (default: "
        "each head some, by chance, if the effect pathology is simulated)",
    )


if __name__ == "__main__":
    raise SystemExit(main())
