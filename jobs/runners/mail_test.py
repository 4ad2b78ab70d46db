from typing import Any

from django import forms
from django.conf import settings
from django.core.mail import EmailMessage
from django.db.models import QuerySet
from django.utils import translation
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from accounts.access import Permission
from accounts.models import User
from jobs import mail
from jobs.config import config
from jobs.models import Job
from jobs.runner import JobRunner, Refused


class MailTestForm(forms.Form):
    to = forms.EmailField(
        label=gettext_lazy("Send a test mail to"), max_length=254,
        help_text=gettext_lazy("With the settings as they are saved. Everybody who sees jobs sees this address."),
    )  # fmt: skip


class SendTestMail(JobRunner[User]):
    """Sends one mail in the name of whoever asks for it, to see whether the settings are right."""

    type = "mail_test"
    label = gettext_lazy("Test mail")
    model = User
    permission = Permission.CONFIG_MANAGE
    form = MailTestForm
    icon = "mail"
    priority = Job.Priority.HIGH

    @classmethod
    def visible_to(cls, user: User) -> QuerySet[User]:
        return User.objects.filter(pk=user.pk)

    @classmethod
    def refuse(cls, subject: User) -> None:
        if not config.SMTP_HOST:
            raise Refused(_("No mail server is set: save its name first."))

    def run(self) -> dict[str, Any]:
        to = self.job.payload["to"]
        self.log.info(f"Sending a test mail to {to} by {config.SMTP_HOST}:{config.SMTP_PORT} ({config.SMTP_TLS}).")
        with translation.override(self.subject.language or settings.LANGUAGE_CODE):
            text = _("This is the test mail that %(name)s asked for: phpBorg can send mail.\n\n%(address)s\n") % {
                "name": self.subject.username, "address": config.SITE_URL,
            }  # fmt: skip
            message = EmailMessage(_("phpBorg: a test mail"), text, to=[to])
        mail.send(message)
        self.log.info("The mail server has taken it.")
        return {"to": to}
