from importlib import import_module
from pkgutil import iter_modules

from django.apps import AppConfig, apps
from django.utils.module_loading import autodiscover_modules, module_has_submodule


class JobsConfig(AppConfig):
    name = "jobs"

    def ready(self) -> None:
        from jobs import live

        live.install()
        autodiscover_modules("periodic")
        for app in apps.get_app_configs():
            if app.module is not None and module_has_submodule(app.module, "runners"):
                package = import_module(f"{app.name}.runners")
                for module in iter_modules(package.__path__):
                    import_module(f"{package.__name__}.{module.name}")
