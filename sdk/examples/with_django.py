from countersign_sdk import instrument
from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, JsonResponse
from django.urls import path

settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"])


def order(request: HttpRequest, order: int) -> JsonResponse:
    return JsonResponse({"order": order})


urlpatterns = [path("orders/<int:order>", order)]
monitor = instrument(get_wsgi_application(), service="checkout")
app = monitor.app
