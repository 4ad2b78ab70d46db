from datetime import timedelta
from typing import Any, ClassVar

from django.conf import settings
from django.contrib.auth.tokens import default_token_generator
from django.core.mail import EmailMessage
from django.db.models import QuerySet
from django.urls import reverse
from django.utils import timezone, translation
from django.utils.encoding import force_bytes
from django.utils.http import urlsafe_base64_encode
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from accounts.access import Permission
from accounts.models import User
from jobs import mail
from jobs.config import config
from jobs.errors import Failure
from jobs.models import Job
from jobs.runner import JobRunner, Refused, subject_key

BETWEEN = "."  # of whose it is, and the token


class MailPasswordLink(JobRunner[User]):
    """Mails somebody a link by which they set a new password. The link is made here, and stands in that mail alone."""

    type = "password_link"
    label = gettext_lazy("Link for a new password")
    model = User
    permission = Permission.USER_MANAGE
    icon = "key"
    priority = Job.Priority.HIGH
    max_attempts = 3

    AN_HOUR: ClassVar = 3  # else a stranger fills somebody's mailbox

    @classmethod
    def visible_to(cls, user: User) -> QuerySet[User]:
        return User.objects.all()

    @classmethod
    def refuse(cls, subject: User) -> None:
        if not config.SMTP_HOST:
            raise Refused(_("No mail server is set."))
        if not subject.is_active or not subject.email:
            raise Refused(_("%(name)s is switched off, or has no e-mail address.") % {"name": subject.username})
        since = timezone.now() - timedelta(hours=1)
        if Job.objects.filter(type=cls.type, subject=subject_key(subject), created_at__gt=since).count() >= cls.AN_HOUR:
            raise Refused(_("Some links were sent within the last hour. Wait a little."))

    def run(self) -> dict[str, Any]:
        user = self.subject
        if not user.is_active or not user.email:
            raise Failure(f"{user.username} is switched off, or has no e-mail address.")
        token = urlsafe_base64_encode(force_bytes(user.pk)) + BETWEEN + default_token_generator.make_token(user)
        link = f"{config.SITE_URL.rstrip('/')}{reverse('password_reset')}#{token}"
        with translation.override(user.language or settings.LANGUAGE_CODE):
            text = _(
                "Somebody asked for a new password for your phpBorg account %(name)s.\n\n"
                "Set it here within an hour; the link opens once:\n\n%(link)s\n\n"
                "If that was not you, there is nothing to do: your password stays as it is.\n"
            ) % {"name": user.username, "link": link}
            message = EmailMessage(_("phpBorg: set a new password"), text, to=[user.email])
        mail.send(message)
        self.log.info("The mail server has taken it.")
        return {}
