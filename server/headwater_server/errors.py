"""Why a question is not answered, drawn as a tree; refusals.py gives each its HTTP status and sentence.

EngineError
├── NotReady            503  loading, draining or failed
├── UnknownIndex        404  no index of that name
├── TooLong             422  more characters than the server takes
├── TooManyWanted       422  top_k above the documents
├── IndexLacks          422  the build left out what is needed
├── UnknownDocument     404  no document of that id
├── TextWithheld        403  this server tells no document's text
├── OutOfMemory         422  one question larger than the device
├── QueueFull           429  with the seconds after which there is room
├── QueueClosed         503  the queue takes nothing any more
├── WorkerDied          503  the model's thread ended with the question in its hands
├── ReloadUnderWay      409  the index is being reloaded already
├── ReloadFailed        409  the new version cannot be served; the old one goes on
└── DeadlinePassed      504  the request's time was over first
"""


class EngineError(Exception):
    """Base of all. Messages hold numbers and names of indexes, never text of a question or document."""


class NotReady(EngineError):
    """Questions are not answered now; `reason` is loading, draining or failed."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class UnknownIndex(EngineError):
    """No index of that name is served."""


class TooLong(EngineError):
    """More than the server takes: characters, counted before anything is tokenised, or tokens."""

    def __init__(self, count: int, limit: int, unit: str = "characters") -> None:
        super().__init__(f"The question has {count} {unit}; this server takes {limit}")


class TooManyWanted(EngineError):
    """`top_k` is above the number of documents."""

    def __init__(self, index: str, documents: int, param: str = "top_k") -> None:
        super().__init__(f"The index '{index}' holds {documents} documents: ask for a {param} from 1 to {documents}")
        self.param = param


class IndexLacks(EngineError):
    """The index was built without what this needs; `option` of the build would have kept it."""

    def __init__(self, option: str) -> None:
        super().__init__(f"The index was built without what this needs: build it with {option}")


class TextWithheld(EngineError):
    """This server is set up to let no document's text out."""


class UnknownDocument(EngineError):
    """The index holds no document of one of the ids."""


class OutOfMemory(EngineError):
    """The question alone is too large for the memory of the device."""


class QueueFull(EngineError):
    """There is no room. `retry_after` is in whole seconds, at least 1."""

    def __init__(self, retry_after: int) -> None:
        super().__init__(f"the queue is full; try again in {retry_after} s")
        self.retry_after = retry_after


class QueueClosed(EngineError):
    """The queue takes nothing any more."""


class WorkerDied(EngineError):
    """The model's thread ended with this question in its hands; it may be asked again."""


class ReloadUnderWay(EngineError):
    """The index is being reloaded already."""


class ReloadFailed(EngineError):
    """The new version of an index cannot be served; the message says why, to an administrator."""


class DeadlinePassed(EngineError):
    """The time of the request was over before there was an answer."""
