from django.apps import AppConfig


class PhpborgConfig(AppConfig):
    name = "phpborg"

    def ready(self) -> None:
        from phpborg import checks  # noqa: F401  # registers them
