"""HTTP around one or more open indexes."""

from importlib.metadata import version

VERSION = version("headwater")
