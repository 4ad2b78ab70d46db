from django.apps import AppConfig


class AlertsConfig(AppConfig):
    name = "alerts"

    def ready(self) -> None:
        from jobs.discovery import import_modules_of

        import_modules_of("alerts.kinds")
        import_modules_of("alerts.channels")
