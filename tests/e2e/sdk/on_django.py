"""A Django app as anybody writes it, in one file."""

import os

import django
from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpResponse
from django.urls import path

from sdk import instrument


def pid(request, who):
    return HttpResponse(str(os.getpid()))


urlpatterns = [path("pid/<who>", pid)]
settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"], SECRET_KEY="x", LOGGING_CONFIG=None)
django.setup()
app = instrument(get_wsgi_application(), service="shop").app
