"""What each kind of problem means and what to do about it: the pages behind a problem's ``type``, and docs/errors.md."""

from html import escape
from http import HTTPStatus
from typing import Final, NamedTuple

from api import problems


class Page(NamedTuple):
    """What a kind of problem means, and what to do about it."""

    meaning: str
    advice: str


#: slug: what it means, what to do. In Markdown's paragraphs, with `code` as the only mark.
PAGES: Final[dict[str, Page]] = {
    "malformed-request": Page(
        "The request could not be read as HTTP and JSON: the body is not JSON (`MALFORMED_JSON`; the detail names line and column),"
        " is empty (`EMPTY_BODY`), is no object (`NOT_AN_OBJECT`), names a key twice, or a header such as Idempotency-Key is"
        " malformed (`INVALID_IDEMPOTENCY_KEY`).",
        "Mend the request; sending it again as it is gives the same answer. NaN and Infinity are not JSON; the text must be UTF-8.",
    ),
    "invalid-request": Page(
        "The request was read, and fields or query parameters break rules. `errors` has every one of them at once: `field`, the"
        " `rule` it breaks, the rule in words, and for the body a JSON Pointer.",
        "Mend all that `errors` names. `?validate_only=true` checks a request without doing it. Numbers are not converted:"
        ' `"3"`, `3.0` and `null` are no node counts, because OpenStack would take them for something else.',
    ),
    "not-authenticated": Page(
        "The header X-Auth-Token is missing (`TOKEN_MISSING`), or Keystone does not accept the token (`TOKEN_INVALID`): it is"
        " unknown, expired, revoked, or belongs to an application credential with access rules.",
        "Get a token, for example with `openstack token issue`, and send it in X-Auth-Token.",
    ),
    "forbidden": Page(
        "The token is valid, and the thing asked is not allowed: the roles in the project do not suffice (`POLICY`), the token"
        " belongs to no project (`PROJECT_REQUIRED`), this service may not act in the project (`NO_CREDENTIAL`), or a plan must be approved by"
        " somebody else (`APPROVAL_BY_ANOTHER`) or by an admin (`APPROVAL_BY_ADMIN`).",
        "`POLICY`: reading needs the role reader, changing member, credentials admin; an installation's policy may differ."
        " `NO_CREDENTIAL`: grant the service's user the role member in the project, or register an application credential with"
        " PUT /credentials.",
    ),
    "not-found": Page(
        "The token's project has no such object. Objects of other projects are answered the same way, and so are deleted ones.",
        "Look it up in GET /clusters or GET /jobs. A cluster is found by its id here and by its uuid in Magnum.",
    ),
    "unknown-path": Page("There is nothing at this path.", "See `/docs`. Paths have no trailing slash."),
    "method-not-allowed": Page(
        "The path exists and does not take this method.", "The header Allow lists the methods that it takes."
    ),
    "body-too-large": Page(
        "The body has more bytes than this installation takes (API_MAX_BODY_BYTES).",
        "No request of this API needs a megabyte. Look at what was put into it.",
    ),
    "unsupported-media-type": Page(
        "The body is not declared as JSON in UTF-8.",
        "Send `Content-Type: application/json`.",
    ),
    "conflict": Page(
        "The object's present state does not allow this: for example the cluster is being deleted (`CLUSTER_DELETING`), its"
        " creation failed (`CREATE_FAILED`), or Magnum can't call back what the job asked (`NOT_CANCELLABLE`)."
        " Of plans: the plan is past that (`PLAN_STATE`), the move was not offered (`MOVE_NOT_OFFERED`), finds no room on its target"
        " (`NO_ROOM`, `TARGET_CLOSED`), or what is held lies elsewhere or has ended (`PLACEMENT_ELSEWHERE`, `PLACEMENT_ENDED`)."
        " `IDEMPOTENCY_KEY_IN_USE`: the first request of this key is being taken at this moment. `NO_SECRET_KEY`: this"
        " installation keeps no credentials.",
        "Look at the object, then decide; the hint says what usually helps.",
    ),
    "already-exists": Page(
        "A live cluster of the project has this name.",
        "Choose another name, or delete the other cluster first. To repeat a request safely, send an Idempotency-Key.",
    ),
    "invalid-transition": Page("A job cannot go from its state to the one asked for.", "Look at the job; it has probably ended."),
    "idempotency-mismatch": Page(
        "The Idempotency-Key was used before with another method, path or body, or its job is past its keeping time. Keys belong"
        " to the project, so another of its users may have used it.",
        "Use a new key for a new request; a UUID is a good one.",
    ),
    "unavailable": Page(
        "A part that the request needs does not answer: Keystone (`KEYSTONE_UNAVAILABLE`), the database"
        " (`DATABASE_UNAVAILABLE`, `DATABASE_BUSY`), or OpenStack where nothing is known of the project yet. Or too many event"
        " streams are open (`TOO_MANY_STREAMS`).",
        "Send the request again after the seconds in Retry-After; with an Idempotency-Key this never does a thing twice.",
    ),
    "cloud-error": Page("OpenStack refused or failed while this service asked it.", "The detail has OpenStack's own words."),
    "cloud-unavailable": Page("OpenStack could not be reached, or answered with a server error.", "Try again after Retry-After."),
    "cloud-timeout": Page("OpenStack did not answer in time.", "Try again after Retry-After."),
    "cloud-throttled": Page("OpenStack asked this service to slow down.", "Try again after Retry-After."),
    "cloud-being-written": Page(
        "Magnum is still writing a cluster and refuses to show it.", "Try again; it takes a second at most."
    ),
    "cloud-not-found": Page("OpenStack has no such object.", "Look whether it was removed outside of this service."),
    "cloud-rejected": Page("OpenStack refused what this service asked.", "The detail has OpenStack's own words."),
    "cloud-auth-failed": Page(
        "OpenStack did not accept the credentials with which this service acts in the project.",
        "Register a valid application credential with PUT /credentials, or give the service's user a role in the project.",
    ),
    "quota-exceeded": Page(
        "The project's quota in OpenStack does not allow this.", "Raise the quota, or remove what is not needed."
    ),
    "internal": Page(
        "Something is wrong in this service itself.",
        "Report it with the request id, which leads to the cause in the service's log. The request may or may not have been"
        " done; repeating it with an Idempotency-Key is safe.",
    ),
}


def kinds() -> dict[str, tuple[str, HTTPStatus]]:
    """Every slug that an answer can carry, with its title and status."""
    found: dict[str, tuple[str, HTTPStatus]] = {}
    for error, status in problems.STATUS.items():
        if status is not HTTPStatus.INTERNAL_SERVER_ERROR:
            found[error.slug] = (error.title().rstrip("."), status)
    for slug, described in problems.HTTP_KINDS.items():
        found.setdefault(slug, described)
    return dict(sorted(found.items(), key=lambda item: (item[1][1], item[0])))


def as_html(slug: str) -> str | None:
    """The page of one kind; None where there is none."""
    known = kinds().get(slug)
    if known is None:
        return None
    title, status = known
    meaning, advice = (_code(text) for text in PAGES[slug])
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(title)}</title>'
        "<style>body{font:1rem/1.6 system-ui,sans-serif;max-width:42rem;margin:3rem auto;padding:0 1rem}"
        "code{background:#8882;padding:.1em .3em;border-radius:.2em}</style>"
        f"<h1>{escape(title)}</h1><p><code>{escape(slug)}</code>, HTTP {status.value}</p>"
        f"<h2>What it means</h2><p>{meaning}</p><h2>What to do</h2><p>{advice}</p></html>"
    )


def _code(text: str) -> str:
    parts = escape(text, quote=False).split("`")
    return "".join(f"<code>{part}</code>" if index % 2 else part for index, part in enumerate(parts))


def as_markdown() -> str:
    """All pages as one document."""
    lines = [
        "# Errors",
        "",
        "Every error is a problem document (RFC 9457, `application/problem+json`). Its `type` is `/problems/<kind>`, where this",
        "service shows the text below; `reason` is a stable code for programs; `request_id` is also in the header",
        "`x-openstack-request-id` and in the log; `errors` names every wrong field at once.",
        "",
        "This file is generated by `python -m api.spec docs/errors.md` from `api/problem_pages.py`.",
        "",
    ]
    for slug, (title, status) in kinds().items():
        meaning, advice = PAGES[slug]
        lines += [f"## {slug}", "", f"HTTP {status.value}. {title}.", "", meaning, "", f"**What to do.** {advice}", ""]
    return "\n".join(lines)


def missing() -> set[str]:
    """Kinds that have no page; a test holds this empty."""
    public = {error.slug for error in problems.STATUS}
    return (set(kinds()) | public) - set(PAGES) - {"lease-lost", "configuration"}
