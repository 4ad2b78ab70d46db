from django.urls import path

from accounts import factor_views as factor
from accounts import people_views as people
from accounts import views

urlpatterns = [
    path("login", views.Login.as_view(), name="login"),
    path("login/code", factor.login_code, name="login_code"),
    path("logout", views.Logout.as_view(), name="logout"),
    path("users", people.users, name="users"),
    path("users/add", people.user_add, name="user_add"),
    path("users/<int:pk>", people.user_edit, name="user_edit"),
    path("users/<int:pk>/delete", people.user_delete, name="user_delete"),
    path("users/<int:pk>/logins/end", people.user_logins_end, name="user_logins_end"),
    path("users/<int:pk>/logins/<str:name>/end", people.user_login_end, name="user_login_end"),
    path("users/<int:pk>/tokens/<int:token>/revoke", people.user_token_revoke, name="user_token_revoke"),
    path("users/<int:pk>/factor/reset", factor.reset, name="user_factor_reset"),
    path("profile/factor", factor.own, name="factor"),
    path("profile/factor/codes", factor.codes, name="factor_codes"),
    path("profile/factor/remove", factor.remove, name="factor_remove"),
    path("roles", people.roles, name="roles"),
    path("roles/add", people.role_add, name="role_add"),
    path("roles/<int:pk>", people.role_edit, name="role_edit"),
    path("roles/<int:pk>/factor", factor.of_role, name="role_factor"),
    path("roles/<int:pk>/delete", people.role_delete, name="role_delete"),
    path("audit", views.audit_trail, name="audit"),
    path("profile", views.profile, name="profile"),
    path("profile/logins/end", views.logins_end, name="logins_end"),
    path("profile/logins/<str:name>/end", views.login_end, name="login_end"),
    path("profile/tokens", views.api_tokens, name="api_tokens"),
    path("profile/tokens/<int:pk>/revoke", views.api_token_revoke, name="api_token_revoke"),
    path("profile/password", views.PasswordChange.as_view(), name="password_change"),
]
