"""The one place the version is written; packaging and messages read it from here."""

__version__ = "0.1.0"
