"""Keystone's groups of users: made by administrators, told to their members."""

import uuid
from typing import Any

from simulator.http import Answer, Request, Router
from simulator.identity import Identity, Keystone, problem


class Groups:
    """The calls. Words and statuses are those of Keystone 30."""

    def __init__(self, keystone: Keystone) -> None:
        self._keystone = keystone

    def _admin(self, request: Request, rule: str) -> Identity:
        me = self._keystone.identify(request)
        if not me.is_admin:
            raise problem(403, f"You are not authorized to perform the requested action: identity:{rule}.")
        return me

    def _find(self, request: Request) -> dict[str, Any]:
        found: dict[str, Any] | None = self._keystone.table("group").get(request.variables["id"])
        if found is None:
            raise problem(404, f"Could not find group: {request.variables['id']}.")
        return found

    def _user(self, request: Request) -> str:
        user = request.variables["user"]
        if user not in self._keystone.table("user"):
            raise problem(404, f"Could not find user: {user}.")
        return user

    @staticmethod
    def _shown(group: dict[str, Any], request: Request) -> dict[str, Any]:
        shown = {name: value for name, value in group.items() if name != "members"}
        return shown | {"links": {"self": f"{request.origin}/identity/v3/groups/{group['id']}"}}

    def _given(self, request: Request, *, new: bool) -> dict[str, Any]:
        body = request.json().get("group")
        if not isinstance(body, dict) or (new and "name" not in body):
            raise problem(400, f"Invalid input for field/attribute group. Value: {body}. 'name' is a required property")
        name = body.get("name", "x")
        if not isinstance(name, str) or not name.strip():
            raise problem(400, f"Invalid input for field/attribute name. Value: {name}. Expecting a name that is not blank")
        return {key: body[key] for key in ("name", "description") if key in body}

    def _check_name(self, name: Any, own: str | None = None) -> None:
        if any(one["name"] == name and one["id"] != own for one in self._keystone.table("group").values()):
            words = f"Duplicate entry found with name {name} at domain ID default."
            raise problem(409, f"Conflict occurred attempting to store group - {words}")

    def listed(self, request: Request) -> Answer:
        """GET /groups."""
        self._admin(request, "list_groups")
        name = request.query.get("name")
        found = [one for one in self._keystone.table("group").values() if name in {None, one["name"]}]
        return _page("groups", [self._shown(one, request) for one in found], request)

    def made(self, request: Request) -> Answer:
        """POST /groups."""
        self._admin(request, "create_group")
        given = self._given(request, new=True)
        self._check_name(given["name"])
        key = uuid.uuid4().hex
        made = {"id": key, "domain_id": "default", "description": "", "members": [], **given}
        return Answer(201, {"group": self._shown(self._keystone.put("group", key, made), request)})

    def shown(self, request: Request) -> Answer:
        """GET /groups/{id}."""
        self._admin(request, "get_group")
        return Answer(200, {"group": self._shown(self._find(request), request)})

    def changed(self, request: Request) -> Answer:
        """PATCH /groups/{id}."""
        self._admin(request, "update_group")
        group = self._find(request)
        given = self._given(request, new=False)
        self._check_name(given.get("name"), group["id"])
        return Answer(200, {"group": self._shown(self._keystone.put("group", group["id"], {**group, **given}), request)})

    def removed(self, request: Request) -> Answer:
        """DELETE /groups/{id}."""
        self._admin(request, "delete_group")
        self._keystone.drop("group", self._find(request)["id"])
        return Answer(204)

    def joined(self, request: Request) -> Answer:
        """PUT /groups/{id}/users/{user}."""
        self._admin(request, "add_user_to_group")
        group, user = self._find(request), self._user(request)
        self._keystone.put("group", group["id"], {**group, "members": sorted({*group["members"], user})})
        return Answer(204)

    def _member(self, request: Request) -> dict[str, Any]:
        group, user = self._find(request), self._user(request)
        if user not in group["members"]:
            raise problem(404, f"User '{user}' not found in group '{group['id']}'")
        return group

    def left(self, request: Request) -> Answer:
        """DELETE /groups/{id}/users/{user}."""
        self._admin(request, "remove_user_from_group")
        group = self._member(request)
        members = [one for one in group["members"] if one != request.variables["user"]]
        self._keystone.put("group", group["id"], {**group, "members": members})
        return Answer(204)

    def checked(self, request: Request) -> Answer:
        """GET and HEAD /groups/{id}/users/{user}."""
        self._admin(request, "check_user_in_group")
        self._member(request)
        return Answer(204)

    def users(self, request: Request) -> Answer:
        """GET /groups/{id}/users."""
        self._admin(request, "list_users_in_group")
        table = self._keystone.table("user")
        members = [table[key] for key in self._find(request)["members"] if key in table]
        shown = [{key: one[key] for key in ("id", "name", "domain_id", "enabled")} for one in members]
        return _page("users", shown, request)

    def of_user(self, request: Request) -> Answer:
        """GET /users/{user}/groups: for the user, and for administrators."""
        me = self._keystone.identify(request)
        if request.variables["user"] != me.user_id:
            self._admin(request, "list_groups_for_user")
        user = self._user(request)
        mine = [one for one in self._keystone.table("group").values() if user in one["members"]]
        return _page("groups", [{**self._shown(one, request), "membership_expires_at": None} for one in mine], request)


def _page(plural: str, shown: list[dict[str, Any]], request: Request) -> Answer:
    query = request.environ.get("QUERY_STRING")
    own = f"{request.origin}/identity{request.path}" + (f"?{query}" if query else "")
    return Answer(200, {plural: shown, "links": {"next": None, "self": own, "previous": None}})


def add_routes(router: Router, keystone: Keystone) -> Router:
    """The same router, with groups."""
    groups = Groups(keystone)
    router.add("GET", "/v3/groups", groups.listed)
    router.add("POST", "/v3/groups", groups.made)
    router.add("GET", "/v3/groups/{id}", groups.shown)
    router.add("PATCH", "/v3/groups/{id}", groups.changed)
    router.add("DELETE", "/v3/groups/{id}", groups.removed)
    router.add("GET", "/v3/groups/{id}/users", groups.users)
    router.add("PUT", "/v3/groups/{id}/users/{user}", groups.joined)
    router.add("DELETE", "/v3/groups/{id}/users/{user}", groups.left)
    router.add("GET HEAD", "/v3/groups/{id}/users/{user}", groups.checked)
    router.add("GET", "/v3/users/{user}/groups", groups.of_user)
    return router
