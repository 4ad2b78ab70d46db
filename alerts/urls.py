from django.urls import path

from alerts import views

urlpatterns = [
    path("alerts", views.index, name="alerts"),
    path("alerts/rules", views.rules, name="alert_rules"),
    path("alerts/rules/add/<slug:event>", views.rule_add, name="alert_rule_add"),
    path("alerts/rules/<int:pk>", views.rule_edit, name="alert_rule_edit"),
    path("alerts/rules/<int:pk>/delete", views.rule_delete, name="alert_rule_delete"),
    path("alerts/channels", views.channels, name="alert_channels"),
    path("alerts/channels/add/<slug:kind>", views.channel_add, name="alert_channel_add"),
    path("alerts/channels/<int:pk>", views.channel_edit, name="alert_channel_edit"),
    path("alerts/channels/<int:pk>/test", views.channel_test, name="alert_channel_test"),
    path("alerts/channels/<int:pk>/delete", views.channel_delete, name="alert_channel_delete"),
    path("alerts/deliveries", views.deliveries, name="alert_deliveries"),
    path("alerts/templates/<slug:language>", views.template, name="alert_template"),
]
