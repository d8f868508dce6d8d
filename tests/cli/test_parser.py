"""The command line: errors of one line, names of other BIDS Apps, and help at once."""

import subprocess
import sys

import pytest

from multiqsm.cli.aliases import current_arguments
from multiqsm.cli.app import main, make_parser
from multiqsm.simulation.effects import ROUGH
from multiqsm.simulation.names import DESIGNS, EFFECTS, OBJECTS
from multiqsm.simulation.study import OUTLINES

PLACES = ("bids", "out", "participant")


@pytest.mark.parametrize(
    ("arguments", "cause"),
    [
        ([*PLACES, "--backgruond", "pdf"], "no option --backgruond: did you mean --background?"),
        ([*PLACES, "--paricipant-label=01"], "did you mean --participant-label?"),
        (["bids", "out", "particpent"], "invalid value 'particpent': did you mean participant?"),
        ([*PLACES, "--background", "pfd"], "did you mean pdf?"),
        ([*PLACES, "extra"], "unexpected argument: extra"),
        (["bids"], "required: output_dir, analysis_level"),
        (["bids", "participant"], "the output folder is missing before participant"),
        ([*PLACES, "--n-procs", "x"], "must be a whole number, got 'x'"),
        ([*PLACES, "--n-procs", "0"], "must be at least 1, got 0"),
        ([*PLACES, "--mem-gb", "all"], "must be a number, got 'all'"),
        ([*PLACES, "--phase-sign", "x"], "invalid value 'x'; choose one of"),
        (["--xyz"], "there is no option --xyz ("),
    ],
)
def test_a_usage_error_is_one_line_and_names_what_was_meant(arguments, cause, capsys):
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert cause in error
    assert error.endswith("(multiqsm --help lists all options)\n")


def test_options_can_be_abbreviated():
    options = make_parser().parse_args([*PLACES, "--participant", "01"])
    assert options.participant_label == ["01"]


def test_names_of_other_bids_apps_are_understood(capsys):
    arguments = [*PLACES, "--participant_label", "01", "--nprocs=3", "--skip-bids-validation", "-v"]
    options = make_parser().parse_args(current_arguments(arguments))
    assert options.participant_label == ["01"]
    assert options.n_procs == 3
    assert options.verbose == 1
    assert not capsys.readouterr().err  # they are no earlier names, so that nothing is announced


def test_a_label_with_an_underscore_is_no_option():
    assert current_arguments(["a_b", "--work_dir=c_d"]) == ["a_b", "--work-dir=c_d"]


def test_the_names_of_a_command_are_those_of_the_simulator():
    assert set(DESIGNS) == set(OUTLINES)
    assert set(ROUGH.amplitudes()) <= set(EFFECTS)
    for design, outline in OUTLINES.items():
        assert ("head" in OBJECTS[design]) == bool(outline.subjects)
        assert ("phantom" in OBJECTS[design]) == bool(outline.phantom)


@pytest.mark.parametrize("command", ["app", "audit", "demo", "simulate"])
def test_help_does_not_load_the_numerics(command):
    script = (
        "import sys\n"
        f"from multiqsm.cli import {command}\n"
        "try:\n"
        f"    {command}.main(['--help'])\n"
        "except SystemExit:\n"
        "    pass\n"
        "print(sorted({'scipy', 'pandas', 'nipype', 'bids', 'nibabel'} & set(sys.modules)))\n"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout.splitlines()[-1] == "[]"
