"""The BIDS App ``multiqsm``."""

import argparse
import json
import sys
from dataclasses import fields, replace
from itertools import product
from pathlib import Path

from .. import __version__
from ..dataset.derivatives import derivative_path, read_json, sidecar_path, write_citation, write_dataset_description
from ..dataset.preflight import check_scan
from ..dataset.protocol import HarmonizedScan, harmonize, study_protocol
from ..dataset.scans import DatasetError, collect_scans
from ..workflows.settings import BACKGROUNDS, DATA_WEIGHTS, INVERSIONS, LAMBDA_RULES, PRESETS, REFERENCES, UNWRAPPINGS
from .arguments import EXIT_FAILED_SCANS, EXIT_NOTHING_TO_DO, EXIT_OK, available_cores, count, positive, share


def main(argv=None):
    """Run the BIDS App.

    Parameters
    ----------
    argv : list of str, optional
        Arguments; those of the process if not given.

    Returns
    -------
    int
        0 if every scan was processed; 1 if some scan was left out or failed; 2 if there was nothing to do.
    """
    options = _parser().parse_args(argv)
    try:
        return run_participants(options)
    except DatasetError as error:
        print(f"multiqsm: {error}", file=sys.stderr)
        return EXIT_NOTHING_TO_DO


def run_participants(options):
    """Collect, check and process the scans; say what was left out and what failed."""
    if options.work_dir.absolute().is_relative_to(options.bids_dir.absolute()):
        raise DatasetError(f"{options.work_dir}: intermediate files would lie in the dataset; say with -w where else")
    settings = _settings(options)
    scans, left_out = collect_scans(
        options.bids_dir,
        participant_label=options.participant_label,
        session_label=options.session_label,
        bids_filter=_bids_filter(options.bids_filter_file),
        derivatives=options.derivatives,
    )
    usable, n_refused = _preflight(scans, left_out)
    if settings.harmonize:
        n_checked, usable = len(usable), _harmonized(usable, scans, options)
        n_refused += n_checked - len(usable)
    if options.dry_run:
        _print_plan(usable, settings, options)
    if options.dry_run or not usable:
        return _exit_code(len(usable), n_refused)

    from ..workflows.run import configure_nipype, run_workflow  # Nipype is slow to import: not before it is needed

    try:
        write_dataset_description(options.output_dir, options.bids_dir)
    except ValueError as error:
        raise DatasetError(str(error)) from error
    write_citation(options.output_dir, _citation_steps(settings))
    plugin_args = _plugin_args(options)
    configure_nipype(options.work_dir.absolute())
    workflow = _workflow(usable, settings, options, plugin_args["n_procs"])
    try:
        failures = run_workflow(workflow, plugin=options.plugin, plugin_args=plugin_args)
    except ValueError as error:
        raise DatasetError(str(error)) from error
    return _report(usable, failures, n_refused, options)


def _parser():
    parser = argparse.ArgumentParser(
        prog="multiqsm",
        description="Quantitative susceptibility mapping of multi-echo gradient-echo scans in BIDS.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        argument_default=None,
    )
    parser.add_argument("bids_dir", type=Path, help="root of the BIDS dataset")
    parser.add_argument("output_dir", type=Path, help="root of the derivative dataset to write")
    parser.add_argument("analysis_level", choices=["participant"], help="what to do")
    parser.add_argument("--version", action="version", version=f"multiqsm {__version__}")

    choice = parser.add_argument_group("which scans")
    choice.add_argument("--participant-label", nargs="+", metavar="LABEL", help="only these participants")
    choice.add_argument("--session-label", nargs="+", metavar="LABEL", help="only these sessions")
    choice.add_argument(
        "--bids-filter-file", type=Path, metavar="FILE", help='JSON such as {"megre": {"acquisition": "x"}}'
    )
    choice.add_argument(
        "--derivatives", nargs="+", type=Path, metavar="DIR", help="datasets to look for brain masks in"
    )
    choice.add_argument("--dry-run", action="store_true", help="check everything, say what would run, and stop")

    method = parser.add_argument_group("method; an option overrides the preset")
    preset_help = "named set of choices; lin2015 is the 2015 multisite study's"
    method.add_argument("--preset", choices=list(PRESETS), default="default", help=preset_help)
    method.add_argument("--inversion", dest="inversions", nargs="+", choices=INVERSIONS, help="susceptibility maps")
    method.add_argument("--background", choices=BACKGROUNDS, help="background field removal")
    method.add_argument("--unwrapping", choices=UNWRAPPINGS, help="each echo in space, or later echoes by time")
    rule = method.add_mutually_exclusive_group()
    rule.add_argument("--lambda-rule", choices=LAMBDA_RULES, help="how λ is chosen")
    rule.add_argument("--lambda", dest="lambda_value", type=positive, metavar="MM", help="fixed λ, mm")
    method.add_argument("--edge-share", type=share, metavar="SHARE", help="share of gradients that are edges")
    method.add_argument("--data-weight", choices=DATA_WEIGHTS, help="how far to believe each voxel's field")
    outside_help = "how far to believe that the field outside the brain is zero; from noise and field if not given"
    method.add_argument("--outside-weight", type=share, metavar="WEIGHT", help=outside_help)
    harmonize_help = (
        "bring all head scans to the voxel size, echoes and mask rule that the dataset's can have in common: for sites "
        "whose protocols differ"
    )
    method.add_argument("--harmonize", action="store_true", help=harmonize_help)
    method.add_argument("--reference", choices=REFERENCES, help="region whose mean susceptibility is zero")
    sign_help = "sign of the phase, if not the manufacturer's"
    method.add_argument("--phase-sign", type=int, choices=(1, -1), help=sign_help)

    machine = parser.add_argument_group("machine")
    machine.add_argument("-w", "--work-dir", type=Path, default=Path("multiqsm_work"), help="intermediate files")
    machine.add_argument("--n-procs", type=count, default=available_cores(), metavar="N", help="processor cores")
    machine.add_argument(
        "--mem-gb", type=positive, metavar="GB", help="memory limit; 90 %% of the machine's if not set"
    )
    machine.add_argument("--plugin", default="MultiProc", help="Nipype plugin that runs the graph")
    machine.add_argument("--plugin-args", type=Path, metavar="FILE", help="JSON file with the plugin's arguments")
    return parser


def _settings(options):
    given = {f.name: getattr(options, f.name) for f in fields(PRESETS["default"])}
    given = {name: tuple(v) if isinstance(v, list) else v for name, v in given.items() if v is not None}
    return replace(PRESETS[options.preset], **given)


def _preflight(scans, left_out):
    """Check all scans, print what is wrong, and return those that can be processed and how many cannot."""
    for what, why, _ in left_out:
        print(f"left out: {what}: {why}", file=sys.stderr)
    usable = []
    for scan in scans:
        problems = check_scan(scan)
        for problem in problems:
            print(f"{problem.severity}: {problem}", file=sys.stderr)
        if not any(problem.severity == "error" for problem in problems):
            usable.append(scan)
    return usable, len(scans) - len(usable) + sum(left.is_fault for left in left_out)


def _harmonized(usable, scans, options):
    """Bring the heads to what all heads of the dataset have in common, whichever of them are asked for."""
    if options.participant_label or options.session_label:
        scans, _ = collect_scans(options.bids_dir, bids_filter=_bids_filter(options.bids_filter_file), derivatives=[])
    common, not_counted = study_protocol(scans)
    for label, why in not_counted:
        print(f"warning: {label}: does not count for --harmonize: {why}; correct or remove the scan", file=sys.stderr)
    if common is None:
        print("warning: --harmonize: there is no head scan to harmonise", file=sys.stderr)
        return usable
    print(f"--harmonize: {common}")
    harmonized, problems = harmonize(usable, common)
    for problem in problems:
        print(f"{problem.severity}: {problem}", file=sys.stderr)
    for scan in harmonized:
        if isinstance(scan, HarmonizedScan) and scan.changes:
            print(f"{scan.label}: {'; '.join(scan.changes)}")
    return harmonized


def _print_plan(scans, settings, options):
    for scan in scans:
        times = ", ".join(f"{1000 * te:.4g}" for te in scan.echo_times)
        kind = "phantom" if scan.is_phantom else "brain"
        mask = f"mask {scan.brain_mask}" if scan.brain_mask else f"automatic {kind} mask"
        print(f"{scan.label}: {scan.suffix}, {len(scan.echo_times)} echoes ({times} ms), site {scan.site}, {mask}")
    print(f"{len(scans)} scans would be processed into {options.output_dir} with {settings}")


def _bids_filter(path):
    return None if path is None else _read_json(path, "--bids-filter-file")


def _read_json(path, option):
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DatasetError(f"{option} {path}: {error}") from error
    if not isinstance(content, dict):
        raise DatasetError(f"{option} {path}: holds no JSON object")
    return content


def _citation_steps(settings):
    unwrapping = {"spatial": "unwrapping", "temporal": "temporal_unwrapping"}[settings.unwrapping]
    rule = settings.lambda_rule if settings.lambda_value is None else "fixed"
    weighted = "iterative" in settings.inversions and settings.data_weight == "noise"
    weights = ["weights"] if weighted else []
    common = ["harmonization"] if settings.harmonize else []
    return [*common, "mask", unwrapping, "fieldmap", settings.background, *settings.inversions, *weights, rule]


def _workflow(scans, settings, options, n_procs):
    from ..workflows.base import init_participants_wf

    return init_participants_wf(
        scans,
        bids_dir=options.bids_dir.absolute(),
        output_dir=options.output_dir.absolute(),
        work_dir=options.work_dir.absolute(),
        settings=settings,
        # Many scans keep the cores busy by themselves; few leave some for the Fourier transforms.
        threads=max(1, n_procs // len(scans)),
    )


def _plugin_args(options):
    arguments = {"n_procs": options.n_procs}
    if options.mem_gb is not None:
        arguments["memory_gb"] = options.mem_gb
    if options.plugin_args is not None:
        arguments |= _read_json(options.plugin_args, "--plugin-args")
    return arguments


def _report(scans, failures, n_refused, options):
    names = {scan.node_name: scan for scan in scans}
    for failure in failures:
        scan = names.get(failure.scan)
        label, file = (scan.label, scan.files[0].name) if scan else (failure.scan, "")
        print(f"failed: {label} ({file}, …): step {failure.step}: {failure.cause}", file=sys.stderr)
        print(f"        the whole story: {failure.crash_file}", file=sys.stderr)
    failed = {failure.scan for failure in failures}
    heads = [scan for scan in scans if scan.node_name not in failed and not scan.is_phantom]
    _warn_of_signs(heads, options)
    print(f"{len(scans) - len(failed)} scans processed, {len(failed)} failed, {n_refused} left out")
    print(f"results: {options.output_dir}")
    return _exit_code(len(scans) - len(failed), n_refused + len(failed))


def _warn_of_signs(scans, options):
    """Point out maps whose dark values reach further than their bright ones: the phase's sign may be wrong."""
    for scan, method in product(scans, _settings(options).inversions):
        path = derivative_path(options.output_dir, scan.entities, suffix="Chimap", desc=method)
        sidecar = read_json(sidecar_path(path))
        if sidecar.get("SignAsymmetry", 0) < 0:
            print(
                f"warning: {path.name}: dark values reach further than bright ones, as if the phase had the wrong sign "
                f"({sidecar['PhaseSignSource']}); look at its picture, and give --phase-sign if deep nuclei are dark",
                file=sys.stderr,
            )


def _exit_code(n_good, n_bad):
    if n_bad == 0:
        return EXIT_OK
    return EXIT_FAILED_SCANS if n_good else EXIT_NOTHING_TO_DO
