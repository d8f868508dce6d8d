"""multiqsm: quantitative susceptibility mapping in multisite studies.

The functions that a scientist calls from Python, such as `decode_phase`, `unwrap_echoes`,
`fit_field`, `medi` and `imprecision`, are attributes of this package; ``multiqsm.__all__`` lists
them. Each is imported on first use, from the module that ``__init__.pyi`` gives.
"""

from importlib.metadata import PackageNotFoundError, version

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

try:
    __version__ = version("multiqsm")
except PackageNotFoundError:  # a checkout that is not installed
    __version__ = "0+unknown"
