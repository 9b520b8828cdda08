"""What schemathesis cannot know from the document."""

import schemathesis
from hypothesis import strategies as st
from schemathesis.openapi.checks import RejectedPositiveData

CONDITIONS = ("If-Match", "If-None-Match", "Idempotency-Key")

# Faults that lie beyond what a schema can say. A sound request that is refused for anything else is a failure.
BEYOND_SCHEMAS = (
    "must not contain the character U+0000",
    "its health would be asked for there",
    "must not lead to the address",
    "is reserved",
    "names another check of the list already",
    "one of the two is enough",
    "must be in the future",
    "is required: true or false",
    "says otherwise than 'status'",
    "must be from ",
)

# URLs as people write them: those that are made by the grammar are hardly ever http.
schemathesis.openapi.format(
    "uri",
    st.from_regex(
        r"https?://[a-z]{1,9}(\.[a-z]{1,9}){0,2}(:[1-9][0-9]{1,3})?(/[a-z0-9._~-]{0,9}){0,3}",
        fullmatch=True,
    ),
)


@schemathesis.hook
def before_call(context, case, kwargs):
    query, headers = case.query or {}, case.headers or {}
    # A revision that is still to come is waited for, and ends in 503: that is the contract.
    if 1 < int_or_zero(query.get("min_revision")) < 2**63:
        query["min_revision"] = 1
    if not case.meta:
        return
    # What is refused or fails for another reason than the one that is examined shows nothing of what lies behind.
    data = case.meta.phase.data
    mutations = getattr(data, "mutations", None) or ()
    examined = {getattr(data, "parameter", None), *(mutation.parameter for mutation in mutations)}
    # Only the server makes sound ones.
    if case.meta.generation.mode.is_positive or "cursor" not in examined:
        query.pop("cursor", None)
    if case.meta.phase.name.name in ("EXAMPLES", "COVERAGE"):
        # they send every parameter there is
        for name in CONDITIONS:
            if name not in examined:
                headers.pop(name, None)
    elif "If-None-Match" in headers and "If-Match" not in examined:
        # both are refused together, which a schema cannot say
        headers.pop("If-Match", None)


def int_or_zero(value):
    return int(value) if str(value).isdecimal() else 0


@schemathesis.hook
def filter_failure(context, failure, case, response):
    if not isinstance(failure, RejectedPositiveData) or response.status_code != 400:
        return True
    faults = response.json().get("errors", [])
    return not faults or not all(any(known in fault["message"] for known in BEYOND_SCHEMAS) for fault in faults)
