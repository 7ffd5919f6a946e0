"""Glance, as far as templates are checked against it."""

import hashlib
import time
import uuid
from typing import Any

from simulator.http import Answer, HttpError, Request, Router
from simulator.identity import Keystone
from simulator.store import Store


class Glance:
    """The image service: public images, read only."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.images: dict[str, dict[str, Any]] = dict(store.all("image"))

    def add(self, name: str, properties: dict[str, str]) -> None:
        """A public image."""
        key = str(uuid.uuid5(uuid.NAMESPACE_DNS, f"image.{name}"))
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        self.images[key] = {
            **properties,
            "id": key,
            "name": name,
            "disk_format": "raw",
            "container_format": "bare",
            "visibility": "public",
            "size": 1048576,
            "virtual_size": 1048576,
            "status": "active",
            "checksum": "b6d81b360a5672d80c27430f39153e2c",
            "protected": False,
            "min_ram": 0,
            "min_disk": 0,
            "owner": "0" * 32,
            "os_hidden": False,
            "os_hash_algo": "sha512",
            "os_hash_value": hashlib.sha512(bytes(1048576)).hexdigest(),
            "stores": "local",
            "owner_specified.openstack.md5": "",
            "owner_specified.openstack.sha256": "",
            "owner_specified.openstack.object": f"images/{name}",
            "created_at": now,
            "updated_at": now,
            "tags": [],
            "self": f"/v2/images/{key}",
            "file": f"/v2/images/{key}/file",
            "schema": "/v2/schemas/image",
        }
        self._store.put("image", key, self.images[key])

    def find(self, ref: str) -> dict[str, Any] | None:
        """By id or name."""
        return next((image for image in self.images.values() if ref in {image["id"], image["name"]}), None)


def routes(glance: Glance, keystone: Keystone) -> Router:
    """Everything under /image."""
    router = Router()

    def versions(request: Request) -> Answer:
        one = {"id": "v2.17", "status": "CURRENT", "links": [{"rel": "self", "href": f"{request.origin}/image/v2/"}]}
        return Answer(300, {"versions": [one]})

    def listed(request: Request) -> Answer:
        keystone.identify(request)
        query = request.query
        shown = [
            image
            for image in glance.images.values()
            if all(
                str(image.get(key)) == value for key, value in query.items() if key in {"name", "visibility", "status", "os_distro"}
            )
        ]
        asked = request.environ.get("QUERY_STRING", "")
        first = f"/v2/images?{asked}" if asked else "/v2/images"
        return Answer(200, {"images": [] if "marker" in query else shown, "first": first, "schema": "/v2/schemas/images"})

    def shown(request: Request) -> Answer:
        keystone.identify(request)
        image = glance.images.get(request.variables["id"])
        if image is None:
            words = f"No image found with ID {request.variables['id']}<br /><br />\n\n\n"
            raise HttpError(Answer(404, {"code": "404 Not Found", "message": words, "title": "Not Found"}))
        return Answer(200, image)

    router.add("GET", "/", versions)
    router.add("GET", "/versions", versions)
    router.add("GET", "/v2", versions)
    router.add("GET", "/v2/images", listed)
    router.add("GET", "/v2/images/{id}", shown)
    return router
