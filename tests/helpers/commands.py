"""The commands, run in this process."""

from helpers.analytic import centred_coordinates

from multiqsm.cli.app import main

SERIAL = ["--plugin", "Linear"]  # processes take seconds to start


def run(root, *options):
    """Run the participant level; return its exit code. Without ``--n-procs`` it runs in this
    process.
    """
    out = root.parent / "out"
    work = root.parent / "work"
    plugin = [] if "--n-procs" in options else SERIAL
    return main([str(root), str(out), "participant", "-w", str(work), *plugin, *options])


def iron(shape):
    """Return a mask of the middle of the ball of iron in `ball_head`."""
    x, y, z = centred_coordinates(shape, (2.5, 2.5, 3))
    return (x - 5) ** 2 + y**2 + (z - 3) ** 2 < 5**2
