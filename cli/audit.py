"""``multiqsm-audit``: the scans of a dataset and their problems, before any processing."""

import sys
from collections.abc import Sequence
from pathlib import Path

from .. import __version__
from ..dataset.problems import DatasetError
from .arguments import (
    EXIT_FAILED_SCANS,
    EXIT_NOTHING_TO_DO,
    EXIT_OK,
    available_cores,
    count,
    interrupted,
)
from .machine import read_filter
from .parser import TROUBLESHOOTING, CommandParser

EXAMPLES = """examples:
  multiqsm-audit BIDS_DIR
      check every scan of a dataset
  multiqsm-audit BIDS_DIR --session-label A --no-sign-check -o audit.tsv
      check the scans of one session quickly, and write the table

exit code: 0 no errors; 1 errors, or with --strict warnings; 2 nothing to audit
documentation: docs/audit.md and docs/troubleshooting.md of the source distribution
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Audit a dataset.

    Parameters
    ----------
    argv : list of str, optional
        Arguments; those of the process if not given.

    Returns
    -------
    int
        0 if there are no errors; 1 if there are, or with ``--strict`` warnings; 2 if there is
        nothing to audit, or the table cannot be written; 130 if it was interrupted.
    """
    options = _parser().parse_args(argv)
    try:
        return _audit(options)
    except KeyboardInterrupt:
        return interrupted("multiqsm-audit", continues=False)
    except (DatasetError, OSError) as error:
        print(f"multiqsm-audit: {error}", TROUBLESHOOTING, sep="\n", file=sys.stderr)
        return EXIT_NOTHING_TO_DO


def _audit(options):
    # Imported only now, so that --help and errors in the command line come at once.
    from ..dataset.audit import audit_problems, audit_table, inspect_scans, print_audit
    from ..dataset.collection import collect_scans
    from ..dataset.tables import write_tsv
    from .faults import print_left_out

    scans, left_out = collect_scans(
        options.bids_dir,
        participant_label=options.participant_label,
        session_label=options.session_label,
        bids_filter=read_filter(options),
        derivatives=options.derivatives,
        exclude=options.exclude,
        none_is_an_error=False,
    )
    inspections = inspect_scans(scans, n_procs=options.n_procs, check_sign=options.check_sign)
    problems = audit_problems(inspections, left_out)
    table = audit_table(inspections, problems)
    print_left_out(problem for problem in left_out if problem.severity == "note")
    print_audit(table, problems, sys.stdout)
    if problems:
        print(TROUBLESHOOTING, file=sys.stderr)
    if options.output is not None:
        print(f"table: {write_tsv(options.output, table)}")
    severities = {problem.severity for problem in problems}
    if "error" in severities or (options.strict and "warning" in severities):
        return EXIT_FAILED_SCANS
    return EXIT_OK


def _parser():
    parser = CommandParser(
        prog="multiqsm-audit",
        description="List the gradient-echo scans of a BIDS dataset: how each would be processed,\n"
        "where its protocol differs from that of its site and of the study, and its\n"
        "problems. Every image is read; only the table of --output is written.",
        epilog=EXAMPLES,
    )
    parser.add_argument("bids_dir", type=Path, help="root of the BIDS dataset")
    parser.add_argument("--version", action="version", version=f"multiqsm {__version__}")
    _add_choice_of_scans(parser.add_argument_group("selection of scans"))
    check = parser.add_argument_group("checks")
    sign_help = (
        "do not check the sign of the phase, which takes a coarse map of each scan, 2 to 4 s "
        "(default: check it)"
    )
    check.add_argument("--no-sign-check", dest="check_sign", action="store_false", help=sign_help)
    check.add_argument(
        "--strict",
        action="store_true",
        help="count warnings as errors in the exit code (default: no)",
    )
    output = parser.add_argument_group("output and machine")
    output.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="FILE",
        help="write the table with all its columns, as TSV (default: print it only)",
    )
    output.add_argument(
        "--n-procs",
        type=count,
        default=available_cores(),
        metavar="N",
        help="number of processor cores (default: all of this machine, %(default)s)",
    )
    return parser


def _add_choice_of_scans(choice):
    choice.add_argument(
        "--participant-label",
        nargs="+",
        metavar="LABEL",
        help="audit only these participants (default: all)",
    )
    choice.add_argument(
        "--session-label",
        nargs="+",
        metavar="LABEL",
        help="audit only these sessions (default: all)",
    )
    filter_help = 'JSON file that selects scans by BIDS entities: {"megre": {"acquisition": "x"}}'
    choice.add_argument("--bids-filter-file", type=Path, metavar="FILE", help=filter_help)
    choice.add_argument(
        "--exclude",
        type=Path,
        metavar="FILE",
        help="file that lists scans, sessions or participants to leave out (default: only those "
        "that columns exclude and quality of the dataset's tables leave out)",
    )
    choice.add_argument(
        "--derivatives",
        nargs="+",
        type=Path,
        metavar="DIR",
        help="derivative datasets with brain masks (default: all in BIDS_DIR/derivatives)",
    )


if __name__ == "__main__":
    raise SystemExit(main())
