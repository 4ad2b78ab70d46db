from django.apps import AppConfig


class BackupsConfig(AppConfig):
    name = "backups"

    def ready(self) -> None:
        from jobs.discovery import import_modules_of

        import_modules_of("backups.sources")
