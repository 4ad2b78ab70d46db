"""What else there is of something, and keeps it from being deleted."""

from django.db.models import PROTECT, Model


def dependents_of(thing: Model) -> str:
    """Counted, for a sentence: "2 plans, 1 repository"; "" when nothing is in the way."""
    counted = []
    for relation in thing._meta.related_objects:
        if relation.on_delete is not PROTECT:
            continue
        rows = relation.related_model._default_manager.filter(**{relation.field.name: thing})
        if number := rows.count():
            names = relation.related_model._meta
            counted.append(f"{number} {names.verbose_name if number == 1 else names.verbose_name_plural}")
    return ", ".join(counted)
