"""Earlier names of options continue to work."""

import pytest

from multiqsm.cli.aliases import ALIASES, current_arguments
from multiqsm.cli.app import make_parser
from multiqsm.cli.participant import settings_of
from multiqsm.execution.completion import fingerprint

VALUES = {
    "--data-weight": ["none"],
    "--edge-share": ["0.2"],
    "--outside-weight": ["0.5"],
}
PLACES = ["bids", "output", "participant"]


def settings(*options):
    return settings_of(make_parser().parse_args([*PLACES, *current_arguments(options)]))


@pytest.mark.parametrize("earlier", ALIASES)
def test_an_earlier_name_gives_the_same_settings_and_fingerprint(earlier):
    value = VALUES.get(earlier, [])
    before = settings(*earlier.split(), *value)
    after = settings(*ALIASES[earlier].split(), *value)
    assert before == after
    assert fingerprint(before) == fingerprint(after)


def test_the_value_may_follow_an_equals_sign():
    assert settings("--edge-share=0.2").edge_fraction == 0.2
    assert settings("--background=joint").background == "tfi"


def test_the_user_is_told_what_it_is_called_now(capsys):
    current_arguments(["--edge-share", "0.2"])
    assert "--edge-share is now called --edge-fraction" in capsys.readouterr().err


def test_nothing_else_is_replaced():
    arguments = ["joint", "out", "participant", "--participant-label", "joint", "--reference=joint"]
    assert current_arguments(arguments) == arguments
