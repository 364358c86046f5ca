"""Context variables of the current request. Threads inherit them with the context of the task that starts them."""

from contextvars import ContextVar

# Request ID, set only by app.http.front.
REQUEST_ID: ContextVar[str] = ContextVar("request_id", default="")
# Name of the API key that authenticated the request, set by app.http.callers.
CALLER: ContextVar[str] = ContextVar("caller", default="")
# ID of the trace that contains the request, set by app.http.tracing.
TRACE_ID: ContextVar[str] = ContextVar("trace_id", default="")
# The same ID, only if the trace is sampled, so that somebody can look it up.
SAMPLED_TRACE: ContextVar[str] = ContextVar("sampled_trace", default="")
