"""Registered by being there: the modules of a folder of kinds (runners, sources) are imported at start."""

from importlib import import_module
from pkgutil import iter_modules


def import_modules_of(package_name: str) -> None:
    package = import_module(package_name)
    for module in iter_modules(package.__path__):
        import_module(f"{package_name}.{module.name}")
