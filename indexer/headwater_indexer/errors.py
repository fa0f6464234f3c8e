"""What can go wrong, drawn as a tree; a message says what, where, and what to do.

HeadwaterError                       exit code 1, at run time
├── NonFiniteGradient                1   a loss or gradient that is not a number
├── ClusterError                     69  workers of a cluster that cannot be had, or were lost
├── UsageError                       2   options that contradict one another
├── DataError                        65  what was read is not what it should be
│   ├── CorpusError                      a document: file, line and reason
│   └── IndexDamaged                     an index folder that is incomplete, altered or of another format
└── ConfigurationError               78  what was asked for cannot be done here
    ├── ModelError                       a model or tokenizer that cannot be loaded or watched
    ├── StorageError                     a full disk, a folder that cannot be written
    └── MissingPackage                   an optional package, with the sentence that installs it
PairError (ValueError)                   a question that cannot be asked; the server answers it with 422
"""


class HeadwaterError(Exception):
    """Base of all errors that a person is told about in one sentence. `exit_code` is the command's status."""

    exit_code = 1


class NonFiniteGradient(HeadwaterError):
    """A gradient with NaN or infinite values; names the document or the item of the batch."""

    def __init__(self, message: str, *, position: int | None = None) -> None:
        super().__init__(message)
        self.position = position


class ClusterError(HeadwaterError):
    """A cluster that cannot be joined, or whose workers are lost."""

    exit_code = 69


class UsageError(HeadwaterError):
    """Options that contradict one another."""

    exit_code = 2


class DataError(HeadwaterError):
    """What was read is not what it should be."""

    exit_code = 65


class CorpusError(DataError):
    """A document that cannot be used: the message starts with the file and line."""


class IndexDamaged(DataError):
    """An index folder that is incomplete, altered, or of another format."""


class ConfigurationError(HeadwaterError):
    """What was asked for cannot be done on this machine, or with this model."""

    exit_code = 78


class ModelError(ConfigurationError):
    """A model or tokenizer that cannot be loaded, or a layer that cannot be watched."""


class StorageError(ConfigurationError):
    """A full disk, or a folder that cannot be written."""


class MissingPackage(ConfigurationError):
    """An optional package that is not installed; the message says what to install."""


class PairError(ValueError):
    """A prompt and response that cannot be attributed. `param` names the field, `code` the reason."""

    def __init__(self, message: str, *, param: str, code: str) -> None:
        super().__init__(message)
        self.param = param
        self.code = code
