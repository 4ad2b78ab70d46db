from django.urls import path

from accounts import views

urlpatterns = [
    path("login", views.Login.as_view(), name="login"),
    path("logout", views.Logout.as_view(), name="logout"),
    path("audit", views.audit_trail, name="audit"),
    path("profile", views.profile, name="profile"),
    path("profile/tokens", views.api_tokens, name="api_tokens"),
    path("profile/tokens/<int:pk>/revoke", views.api_token_revoke, name="api_token_revoke"),
    path("profile/password", views.PasswordChange.as_view(), name="password_change"),
]
