import os

from django.apps import AppConfig


class SlowConfig(AppConfig):
    name = "tests.faults.slow"

    def ready(self) -> None:
        """Settings cannot change this one: the module has models, which are not there yet when they are read."""
        from jobs import streams

        if "ASK_AGAIN_SECONDS" in os.environ:
            streams.ASK_AGAIN_SECONDS = float(os.environ["ASK_AGAIN_SECONDS"])
