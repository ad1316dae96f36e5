"""The errors that xfast raises: one root, a class per kind of cause."""


class XfastError(Exception):
    """Root of every error that xfast raises on purpose."""


class ParameterError(XfastError, ValueError):
    """An argument or configuration value is out of range; the message names it, its value and what is allowed."""


class ArtifactError(XfastError):
    """A model file is missing, malformed or of the wrong shape; the message names the file and the key."""


class DataError(XfastError):
    """An input table or event is malformed; the message names the file, the line or the field."""


class SnapshotError(XfastError):
    """A snapshot or log cannot be read; the message names the file and the reason."""


class ConfigurationError(ParameterError):
    """A configuration file has an unknown key or a combination that cannot work."""


class StoreError(XfastError):
    """A store cannot answer: its database is unreachable, locked, too new or damaged; the message names the store."""
