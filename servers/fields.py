"""Fields of forms whose values only this app can judge."""

from django import forms

from servers.models import validate_address


class AddressField(forms.CharField):
    """A host name or an IP address."""

    default_validators = [validate_address]
