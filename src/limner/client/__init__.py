"""The Python client: `Client`, and `AsyncClient` with the same methods awaited.

Needs the standard library and httpx2 alone, and imports nothing of the service. docs/client.md is its guide.
"""

from limner.client.aio import AsyncClient
from limner.client.errors import (
    AuthenticationError,
    ConnectionFailed,
    InvalidRequest,
    JobCancelled,
    LimnerAPIError,
    NotFound,
    PromptRefused,
    QuotaUsed,
    RateLimited,
    ServiceFailed,
    TimedOut,
)
from limner.client.images import AsyncImage, Format, Image
from limner.client.sync import Client
from limner.client.types import (
    Abilities,
    Job,
    JobOptions,
    JobPicture,
    Model,
    Options,
    Progress,
    Reference,
    Result,
    State,
    Usage,
    UsageDay,
)

__all__ = [
    "Abilities",
    "AsyncClient",
    "AsyncImage",
    "AuthenticationError",
    "Client",
    "ConnectionFailed",
    "Format",
    "Image",
    "InvalidRequest",
    "Job",
    "JobCancelled",
    "JobOptions",
    "JobPicture",
    "LimnerAPIError",
    "Model",
    "NotFound",
    "Options",
    "Progress",
    "PromptRefused",
    "QuotaUsed",
    "RateLimited",
    "Reference",
    "Result",
    "ServiceFailed",
    "State",
    "TimedOut",
    "Usage",
    "UsageDay",
]
