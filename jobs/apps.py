from django.apps import AppConfig, apps
from django.utils.module_loading import autodiscover_modules, module_has_submodule


class JobsConfig(AppConfig):
    name = "jobs"

    def ready(self) -> None:
        from jobs import config, live
        from jobs.discovery import import_modules_of

        config.refuse_defaults()
        live.install()
        autodiscover_modules("periodic", "maintenance")
        for app in apps.get_app_configs():
            if app.module is not None and module_has_submodule(app.module, "runners"):
                import_modules_of(f"{app.name}.runners")
