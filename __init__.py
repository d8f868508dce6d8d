"""multiqsm: quantitative susceptibility mapping in multisite studies."""

from importlib.metadata import version

__version__ = version("multiqsm")
