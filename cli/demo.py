"""``multiqsm-demo``: a small simulated study, its susceptibility maps and their agreement."""

import sys
from collections.abc import Sequence
from pathlib import Path

from .. import __version__
from ..interfaces.methods import DEFAULT_INVERSIONS
from .app import main as process
from .arguments import EXIT_OK, available_cores, count, interrupted
from .parser import CommandParser
from .simulate import main as simulate

EXAMPLES = """examples:
  multiqsm-demo demo
      the study in the folder demo, with its reports in demo/derivatives
  multiqsm-demo demo --n-procs 4
      on four cores; the same command continues an interrupted demo

documentation: README.md and docs/simulation.md of the source distribution
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Simulate a small study of three sites, process it, and compare its scans.

    Parameters
    ----------
    argv : list of str, optional
        Arguments; those of the process if not given.

    Returns
    -------
    int
        0 if all commands succeeded, else the exit code of the one that failed; 130 if it was
        interrupted.
    """
    options = _parser().parse_args(argv)
    try:
        return _demonstrate(options)
    except KeyboardInterrupt:
        return interrupted("multiqsm-demo")


def _demonstrate(options):
    raw = options.output_dir / "raw"
    results = options.output_dir / "derivatives"
    work = options.output_dir / "work"
    common = ["-w", str(work), "--n-procs", str(options.n_procs)]
    print("simulating two people at three sites, two scans each", file=sys.stderr)
    code = simulate([str(raw), "--design", "demo", *common])
    if code != EXIT_OK:
        return code
    print("making susceptibility maps", file=sys.stderr)
    code = process([str(raw), str(results), "participant", *common])
    if code != EXIT_OK:
        return code
    print("comparing the scans", file=sys.stderr)
    code = process([str(raw), str(results), "group", *common])
    if code != EXIT_OK:
        return code
    from ..dataset.names import picture_path, susceptibility_map
    from ..dataset.outputs import derivative_path
    from ..dataset.simulated.layout import TRUTH

    entities = {"subject": "01", "session": "A", "run": "1"}
    chi_map = susceptibility_map(DEFAULT_INVERSIONS[0])
    print("one of its maps, in ppm, and a picture of it:")
    print(f"  {derivative_path(results, entities, **chi_map)}")
    print(f"  {picture_path(results, entities, **chi_map)}")
    print(f"ground truth: {raw / TRUTH}")
    return EXIT_OK


def _parser():
    parser = CommandParser(
        prog="multiqsm-demo",
        description="Simulate a small study (two people at three sites, two scans each), make its\n"
        "susceptibility maps, and compare the scans. This takes some minutes.",
        epilog=EXAMPLES,
    )
    parser.add_argument(
        "output_dir",
        type=Path,
        help="folder for the simulated dataset (raw), the results (derivatives) and intermediate "
        "files (work)",
    )
    parser.add_argument("--version", action="version", version=f"multiqsm {__version__}")
    machine = parser.add_argument_group("machine")
    machine.add_argument(
        "--n-procs",
        type=count,
        default=available_cores(),
        metavar="N",
        help="number of processor cores (default: all of this machine, %(default)s)",
    )
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
