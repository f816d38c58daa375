"""Which version of Countersign this is."""

from importlib import metadata


def version() -> str:
    try:
        return metadata.version("countersign")
    except metadata.PackageNotFoundError:
        return "0.1.0"
