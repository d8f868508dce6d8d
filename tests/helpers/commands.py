"""Runs of the commands in this process."""

from helpers.analytic import centred_coordinates

from multiqsm.cli.app import main

SERIAL = ["--plugin", "Linear"]  # processes take seconds to start


def run(root, *options):
    """Run the participant level, in this process if nothing is said of processes; return its exit
    code.
    """
    out, work = root.parent / "out", root.parent / "work"
    plugin = [] if "--n-procs" in options else SERIAL
    return main([str(root), str(out), "participant", "-w", str(work), *plugin, *options])


def iron(shape):
    """The middle of the ball of iron in `ball_head`."""
    x, y, z = centred_coordinates(shape, (2.5, 2.5, 3))
    return (x - 5) ** 2 + y**2 + (z - 3) ** 2 < 5**2
