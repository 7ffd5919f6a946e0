"""Heat's errors, and what of a template is wrong."""

from simulator.http import Answer, HttpError

_TITLES = {400: "Bad Request", 403: "Forbidden", 404: "Not Found", 409: "Conflict"}
_EXPLANATIONS = {
    400: "The server could not comply with the request since it is either malformed or otherwise incorrect.",
    403: "Access was denied to this resource.",
    404: "The resource could not be found.",
    409: "There was a conflict when trying to complete your request.",
}


class HotError(Exception):
    """A document or parameter that Heat answers with 400. ``kind``: its name for what is wrong."""

    def __init__(self, words: str, kind: str = "StackValidationFailed") -> None:
        super().__init__(words)
        self.kind = kind


def fault(status: int, kind: str, message: str | None) -> HttpError:
    """An error in Heat's shape."""
    error = {"type": kind, "traceback": None} | ({} if message is None else {"message": message})
    body = {"code": status, "title": _TITLES[status], "explanation": _EXPLANATIONS[status], "error": error}
    return HttpError(Answer(status, body))


def bad(message: str = _EXPLANATIONS[400]) -> HttpError:
    """A request that can't be read."""
    return fault(400, "HTTPBadRequest", message)


def no_stack(ref: str) -> HttpError:
    """A 404."""
    return fault(404, "EntityNotFound", f"The Stack ({ref}) could not be found.")
