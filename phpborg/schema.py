"""What the OpenAPI schema says about all operations alike."""

from typing import Any

from drf_spectacular.openapi import AutoSchema
from drf_spectacular.utils import OpenApiParameter

from accounts.idempotency import HEADER

IDEMPOTENCY_KEY = OpenApiParameter(
    HEADER,
    str,
    OpenApiParameter.HEADER,
    description=(
        "Sent again with the same key within 24 hours, the request is not done again but answered as it was. "
        "409 while the first one is still being answered, 422 if the key came with another request."
    ),
)


class Schema(AutoSchema):
    def get_override_parameters(self) -> list[Any]:
        heeds_key = self.method == "POST" and not getattr(self.view, "answers_with_secrets", False)
        return [IDEMPOTENCY_KEY] if heeds_key else []
